"""Metrics on a port of their own, which need not be reachable from where requests come."""

from __future__ import annotations

import uuid

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Code, ServiceError
from service.telemetry.metrics import Metrics
from service.web.problems import problem_response


def metrics_app(metrics: Metrics) -> ASGIApp:
    """An application that answers `/metrics` and nothing else, without keys."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics":
            response = Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)
        else:
            response = problem_response(ServiceError(Code.NOT_FOUND, "Only /metrics is here."), uuid.uuid4().hex)
        await response(scope, receive, send)

    return app
