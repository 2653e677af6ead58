"""The arguments of routes, as annotations."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.inference.engine import Engine
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web.parsing import RequestParser
from service.web.showcase import Showcase


def _app_state(name: str) -> object:
    """The dependency on an attribute of the application's state."""

    async def read(request: Request) -> object:
        return getattr(request.app.state, name)

    return Depends(read)


async def _record(request: Request) -> RequestRecord:
    record: RequestRecord = request.state.record
    return record


EngineDep = Annotated[Engine, _app_state("engine")]
MetricsDep = Annotated[Metrics, _app_state("metrics")]
ParserDep = Annotated[RequestParser, _app_state("parser")]
RecordDep = Annotated[RequestRecord, Depends(_record)]
ShowcaseDep = Annotated[Showcase, _app_state("showcase")]
