"""The arguments of routes, as annotations."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.api.item import Batch
from service.api.requests import ClassifyRequest, EmbedRequest
from service.inference.engine import Engine
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web.parsing import RequestParser
from service.web.showcase import Showcase
from service.web.tensors import Inference


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


async def _parser(request: Request) -> RequestParser:
    parser: RequestParser = request.app.state.parser
    return parser


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
_ParserDep = Annotated[RequestParser, Depends(_parser)]


async def _classify_request(request: Request, parser: _ParserDep, record: RecordDep) -> ClassifyRequest:
    return await parser.item(ClassifyRequest, request, record)


async def _embed_request(request: Request, parser: _ParserDep, record: RecordDep) -> EmbedRequest:
    return await parser.item(EmbedRequest, request, record)


async def _batch(request: Request, parser: _ParserDep, record: RecordDep) -> Batch:
    return await parser.batch(request, record)


async def _inference(request: Request, parser: _ParserDep, record: RecordDep) -> Inference:
    return await parser.inference(request, record)


ClassifyRequestDep = Annotated[ClassifyRequest, Depends(_classify_request)]
EmbedRequestDep = Annotated[EmbedRequest, Depends(_embed_request)]
BatchDep = Annotated[Batch, Depends(_batch)]
InferenceDep = Annotated[Inference, Depends(_inference)]
