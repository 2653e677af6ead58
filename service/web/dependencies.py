"""What routes are given, as annotations."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.api.item import Batch
from service.api.requests import ClassifyRequest, EmbedRequest
from service.inference.engine import Engine
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web.showcase import Showcase
from service.web.tensors import Inference


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _showcase(request: Request) -> Showcase:
    showcase: Showcase = request.app.state.showcase
    return showcase


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _record(request: Request) -> RequestRecord:
    record: RequestRecord = request.state.record
    return record


EngineDep = Annotated[Engine, Depends(_engine)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
ShowcaseDep = Annotated[Showcase, Depends(_showcase)]
RecordDep = Annotated[RequestRecord, Depends(_record)]


async def _classify_request(request: Request, engine: EngineDep, record: RecordDep) -> ClassifyRequest:
    return await engine.parse(ClassifyRequest, request, record)


ClassifyRequestDep = Annotated[ClassifyRequest, Depends(_classify_request)]


async def _embed_request(request: Request, engine: EngineDep, record: RecordDep) -> EmbedRequest:
    return await engine.parse(EmbedRequest, request, record)


EmbedRequestDep = Annotated[EmbedRequest, Depends(_embed_request)]


async def _batch(request: Request, engine: EngineDep, record: RecordDep) -> Batch:
    return await engine.parse_batch(request, record)


BatchDep = Annotated[Batch, Depends(_batch)]


async def _inference(request: Request, engine: EngineDep, record: RecordDep) -> Inference:
    return await engine.parse_inference(request, record)


InferenceDep = Annotated[Inference, Depends(_inference)]
