"""The ASGI application, assembled from the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from model_store import Store, read_trusted_keys
from service.errors import Code, ServiceError
from service.inference.engine import Engine
from service.models.catalog import Catalog
from service.models.golden_limits import check_live_versions
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics, watch_event_loop_lag
from service.telemetry.record import RequestRecord
from service.web import open_inference, openai, page
from service.web.access import Access
from service.web.body_budget import BodyBudget
from service.web.cancel_on_disconnect import CancelOnDisconnect
from service.web.cors import Cors
from service.web.described_app import DescribedApp
from service.web.docs_page import add_docs
from service.web.head_as_get import HeadAsGet
from service.web.hosts import AllowedHosts
from service.web.inflight import InflightRequests
from service.web.keys import ApiKeys
from service.web.observation import Observation
from service.web.parsing import RequestParser
from service.web.path_prefix import PathPrefix, check_prefix
from service.web.problems import problem_response
from service.web.query import refuse_query
from service.web.rate_limit import RateLimit
from service.web.rounds import Rounds
from service.web.routes import check_scope, router, scrape
from service.web.showcase import Showcase
from service.web.slow_bodies import SlowBodies

# FastAPI's own spans and logs hold paths, queries and error messages, which contain input. Those of Tracing do not.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_KEYS_SECONDS = 1.0


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """The application. It loads every task of its store before it answers the first request.

    Args:
        store: the model store; by default the folder of the settings.

    Raises OSError, ValueError or StoreError for an unusable file of keys, ValueError for an unusable path prefix or a
    setting that refuses a golden picture of a live version.
    """
    metrics = Metrics()
    keys = ApiKeys(settings.api_keys_file) if settings.api_keys_file else None
    trusted = read_trusted_keys(settings.trusted_keys)
    source = Store(settings.store_folder, trusted) if store is None else store
    check_live_versions(source, settings)
    limit = RateLimit(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        catalog = Catalog(source, Loader(source, settings), metrics, settings.max_pinned_versions)
        app.state.engine = engine = Engine(catalog, settings, metrics)
        app.state.parser = parser = RequestParser(settings, metrics, limit)
        app.state.showcase = showcase = Showcase(catalog, source, settings.queue_size)
        following = Rounds(partial(_follow, engine, settings.trusted_keys), settings.poll_seconds)
        await following.once()
        await metrics.scrape()  # so that its thread runs even if threads are short later
        app.state.rounds = [following]
        if keys is not None:
            app.state.rounds.append(Rounds(lambda _: asyncio.to_thread(keys.refresh), _KEYS_SECONDS))
        watchers = [asyncio.create_task(rounds.run()) for rounds in app.state.rounds]
        watchers.append(asyncio.create_task(watch_event_loop_lag(metrics.event_loop_lag)))
        yield
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        parser.close()
        engine.close()
        showcase.close()
        await asyncio.to_thread(close_traces)

    app = DescribedApp(
        title="MoRA inference service",
        description="Labels for items whose image or text may be missing.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        dependencies=[Depends(check_scope), Depends(refuse_query)],
        generate_unique_id_function=lambda route: route.name,
        telemetry=_NO_TELEMETRY,
    )
    app.state.metrics = metrics
    app.state.inflight = InflightRequests()
    app.include_router(router)
    app.include_router(open_inference.router)
    app.include_router(openai.router)
    if settings.metrics_port is None:
        app.include_router(scrape)
    add_docs(app)
    app.include_router(page.router)
    close_traces = _add_middleware(app, settings, keys, limit)
    app.exception_handler(ServiceError)(_on_service_error)
    app.exception_handler(HTTPException)(_on_http_exception)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    return app


def _add_middleware(
    app: FastAPI, settings: Settings, keys: ApiKeys | None, limit: RateLimit | None
) -> Callable[[], None]:
    """Add the middleware, the innermost first. Returns a blocking function that sends the last spans."""
    metrics: Metrics = app.state.metrics
    app.add_middleware(HeadAsGet)
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(
        BodyBudget,
        total_bytes=settings.max_bodies_bytes,
        largest_body_bytes=settings.max_body_bytes,
        wait_seconds=settings.timeout_ms / 1000,
        held=metrics.inflight_body_bytes,
    )
    limits = {"idle_seconds": settings.body_idle_seconds, "total_seconds": settings.body_seconds}
    app.add_middleware(SlowBodies, **limits, metrics=metrics)
    hosts = AllowedHosts(settings.allowed_hosts)
    app.add_middleware(Access, hosts=hosts, keys=keys, limit=limit, open_paths=page.page_paths())
    app.add_middleware(Observation, metrics=metrics, inflight=app.state.inflight, timeout_ms=settings.timeout_ms)
    close_traces = _trace(app, settings)
    if settings.root_path:
        check_prefix(settings.root_path, [route.path or "/" for route in iter_route_contexts(app.routes)])
        app.add_middleware(PathPrefix, prefix=settings.root_path)
    if settings.cors_origins:
        app.add_middleware(Cors, origins=settings.cors_origins)
    return close_traces


def _trace(app: FastAPI, settings: Settings) -> Callable[[], None]:
    """Trace requests if the settings name an endpoint. Returns a blocking function that sends the last spans."""
    if settings.traces_endpoint is None:
        return lambda: None
    from service.web.tracing import Tracing, close, open_provider  # imported here because it needs the extra `otel`

    provider = open_provider(str(settings.traces_endpoint))
    app.add_middleware(Tracing, tracer=provider.get_tracer("mora-serve"))
    return partial(close, provider)


async def _follow(engine: Engine, trusted_keys: Path | None, rereads: bool) -> None:
    """Load new versions.

    Args:
        rereads: whether to read the file of trusted keys again, and to try every refused version again.
    """
    if rereads:
        await engine.reread(trusted_keys)
    await engine.refresh()


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    if error.status_code != 405:
        return await _on_service_error(request, ServiceError(Code.NOT_FOUND, "GET /docs lists the paths."))
    allowed = set((error.headers or {}).get("Allow", "GET").split(", "))  # a folder of files names no method
    if "GET" in allowed:
        allowed.add("HEAD")
    problem = ServiceError(Code.METHOD_NOT_ALLOWED, "The Allow header names the methods of this path.")
    return await _on_service_error(request, problem, {"Allow": ", ".join(sorted(allowed))})


async def _on_validation_error(request: Request, _: RequestValidationError) -> Response:
    return await _on_service_error(request, ServiceError(Code.BAD_VALUE, "A parameter has an unsuitable value."))


async def _on_service_error(
    request: Request, error: ServiceError, headers: Mapping[str, str] | None = None
) -> Response:
    record: RequestRecord = request.state.record
    record.problem = error.code.reason
    return problem_response(error, record.request_id, headers, request.scope["path"])
