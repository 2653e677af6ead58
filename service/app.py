"""The ASGI application: its parts, put together once from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from model_store import Store
from service import open_inference
from service.catalog import Catalog
from service.engine import Engine
from service.errors import Code, ServiceError, problem_response
from service.loading import Loader
from service.metrics import Metrics
from service.observation import Observation
from service.record import RequestRecord
from service.routes import router
from service.settings import Settings

_log = structlog.get_logger()


def create_app(settings: Settings) -> FastAPI:
    """A service that has loaded every task of its store by the time it starts to answer."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = Store(settings.store)
        catalog = Catalog(store, Loader(store, settings), metrics, settings.max_pinned_versions)
        app.state.engine = engine = Engine(catalog, settings, metrics)
        await _refresh(engine)
        watcher = asyncio.create_task(_watch(engine, settings.poll_seconds))
        yield
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        engine.close()

    app = FastAPI(
        title="MoRA inference service",
        description="Labels for items whose image or text may be missing.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.metrics = metrics
    app.include_router(router)
    app.include_router(open_inference.router)
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))
    app.add_middleware(Observation, metrics=metrics)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return app


async def _watch(engine: Engine, poll_seconds: float) -> None:
    while True:
        await asyncio.sleep(poll_seconds)
        await _refresh(engine)


async def _refresh(engine: Engine) -> None:
    """Follow the store; whatever is wrong with it, what is loaded goes on and the next look may find it well."""
    try:
        await engine.refresh()
    except Exception:
        _log.exception("store_unreadable")


async def _on_service_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ServiceError):
        raise error
    return _problem(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0":
        headers["Connection"] = "close"  # nobody reads the body, and it may never end
    if error.status_code == 405:
        refusal = ServiceError(Code.METHOD_NOT_ALLOWED, "The Allow header names the methods this path takes.")
        return _problem(request, refusal, headers)
    return _problem(request, ServiceError(Code.NOT_FOUND, "GET /docs lists the paths."), headers)


async def _on_validation_error(request: Request, _: Exception) -> Response:
    return _problem(request, ServiceError(Code.BAD_VALUE, "A parameter has an unsuitable value."))


def _problem(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    record: RequestRecord = request.state.record
    record.problem = error.reason
    return problem_response(error, record.request_id, headers, request.scope["path"])
