"""The ASGI application: its parts, put together once from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from model_store import Store, read_trusted_keys
from model_store.messages import describe_os_error
from service.errors import Code, ServiceError
from service.inference.engine import Engine
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.event_loop_lag import watch_event_loop_lag
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web import open_inference
from service.web.access import Access
from service.web.cancel_on_disconnect import CancelOnDisconnect
from service.web.keys import ApiKeys
from service.web.observation import Observation
from service.web.page import page_files, page_router
from service.web.problems import problem_response
from service.web.rate_limit import RateLimit
from service.web.routes import router, scrape
from service.web.showcase import Showcase
from service.web.slow_bodies import SlowBodies

_log = structlog.get_logger()
# FastAPI's own spans and logs hold paths, queries and messages of errors, which are input; Tracing's hold none.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_KEYS_SECONDS = 1.0


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """A service that has loaded every task of its store by the time it starts to answer.

    Args:
        store: what to answer from; by default the folder that the settings name.

    Raises OSError, ValueError or StoreError for a file of keys that cannot be used.
    """
    metrics = Metrics()
    keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
    trusted = read_trusted_keys(settings.trusted_keys)
    limit = RateLimit(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        source = Store(settings.store, trusted) if store is None else store
        catalog = Catalog(source, Loader(source, settings), metrics, settings.max_pinned_versions)
        app.state.engine = engine = Engine(catalog, settings, metrics)
        app.state.showcase = showcase = Showcase(catalog, source, settings.queue_size)
        await _refresh(engine)
        watchers = [
            asyncio.create_task(_watch(engine, settings.poll_seconds)),
            asyncio.create_task(watch_event_loop_lag(metrics.event_loop_lag)),
        ]
        if keys is not None:
            watchers.append(asyncio.create_task(_follow(keys)))
        yield
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        engine.close()
        showcase.close()
        await asyncio.to_thread(close_traces)

    app = FastAPI(
        title="MoRA inference service",
        description="Labels for items whose image or text may be missing.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.metrics = metrics
    app.include_router(router)
    app.include_router(open_inference.router)
    if settings.metrics_port is None:
        app.include_router(scrape)
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))
    page = page_files()
    app.include_router(page_router(page))
    app.add_middleware(CancelOnDisconnect)
    patience = {"idle_seconds": settings.body_idle_seconds, "total_seconds": settings.body_seconds}
    app.add_middleware(SlowBodies, **patience, metrics=metrics)
    app.add_middleware(Access, keys=keys, limit=limit, open_paths=page)
    app.add_middleware(Observation, metrics=metrics)  # the last is the outermost
    close_traces = _trace(app, settings)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return app


def _trace(app: FastAPI, settings: Settings) -> Callable[[], None]:
    """Trace requests when the settings ask for it; what is returned sends the last spans, and blocks."""
    if settings.traces_endpoint is None:
        return lambda: None
    from service.web.tracing import Tracing, close, exporting_to  # only now: it needs the extra `otel`

    provider = exporting_to(str(settings.traces_endpoint))
    app.add_middleware(Tracing, tracer=provider.get_tracer("mora-serve"))
    return partial(close, provider)


async def _watch(engine: Engine, poll_seconds: float) -> None:
    while True:
        await asyncio.sleep(poll_seconds)
        await _refresh(engine)


async def _follow(keys: ApiKeys) -> None:
    while True:
        await asyncio.sleep(_KEYS_SECONDS)
        await asyncio.to_thread(keys.refresh)


async def _refresh(engine: Engine) -> None:
    """Follow the store; whatever is wrong with it, what is loaded goes on and the next look may find it well."""
    try:
        await engine.refresh()
    except OSError as error:
        _log.error("store_unreadable", problem=describe_os_error(error))
    except Exception:
        _log.exception("store_unreadable")


async def _on_service_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ServiceError):
        raise error
    return _problem(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:
        refusal = ServiceError(Code.METHOD_NOT_ALLOWED, "The Allow header names the methods this path takes.")
        return _problem(request, refusal, error.headers)
    return _problem(request, ServiceError(Code.NOT_FOUND, "GET /docs lists the paths."), error.headers)


async def _on_validation_error(request: Request, _: Exception) -> Response:
    return _problem(request, ServiceError(Code.BAD_VALUE, "A parameter has an unsuitable value."))


def _problem(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    record: RequestRecord = request.state.record
    record.problem = error.reason
    return problem_response(error, record.request_id, headers, request.scope["path"])
