"""The paths of the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST

from model_store.items.formats import PictureFormat
from model_store.items.pictures import media_type_of
from service.api.answers import (
    BatchClassification,
    Classification,
    Embedding,
    Health,
    TaskDetail,
    TaskExamples,
    TaskList,
    TaskSummary,
    TaskVersions,
    TowerDetail,
)
from service.api.openapi import batch_body, failures, item_body
from service.api.problems import ProblemDetails
from service.api.requests import ClassifyRequest, EmbedRequest
from service.errors import forbidden_task
from service.inference.engine import Engine
from service.inference.fan_out import classify_batch
from service.inference.label_sets import highest_coverages
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


async def check_scope(request: Request) -> None:
    """Raises ServiceError `forbidden` for a path of a task that the client's key does not allow."""
    task, record = request.path_params.get("task"), request.state.record
    if task is not None and not record.allows(task):
        raise forbidden_task()


EngineDep = Annotated[Engine, _app_state("engine")]
MetricsDep = Annotated[Metrics, _app_state("metrics")]
ParserDep = Annotated[RequestParser, _app_state("parser")]
RecordDep = Annotated[RequestRecord, Depends(_record)]
ShowcaseDep = Annotated[Showcase, _app_state("showcase")]

_PROBLEMS = failures(ProblemDetails)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {each.media_type: _BINARY for each in PictureFormat}}
}
# The publisher of a version wrote these files, so a browser must not run their scripts as the service's.
_HARMLESS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "Referrer-Policy": "no-referrer",
}
router = APIRouter(responses=_PROBLEMS)
scrape = APIRouter(responses=_PROBLEMS)  # used unless metrics have a port of their own


@router.post(
    "/classify", openapi_extra={"requestBody": item_body(ClassifyRequest, top_k=3)}, response_model_exclude_unset=True
)
async def classify(request: Request, parser: ParserDep, engine: EngineDep, record: RecordDep) -> Classification:
    """Label one item from its image, its text, or both."""
    return await engine.classify(await parser.item(ClassifyRequest, request, record), record)


@router.post("/embed", openapi_extra={"requestBody": item_body(EmbedRequest)}, response_model_exclude_unset=True)
async def embed(request: Request, parser: ParserDep, engine: EngineDep, record: RecordDep) -> Embedding:
    """Encode one item: its vector in a retrieval task, else the features of its image, its text, or both."""
    return await engine.embed(await parser.item(EmbedRequest, request, record), record)


@router.post("/classify/batch", openapi_extra={"requestBody": batch_body()}, response_model_exclude_unset=True)
async def batch(request: Request, parser: ParserDep, engine: EngineDep, record: RecordDep) -> BatchClassification:
    """Label several items in several tasks. An item runs through a trunk once for all tasks that share it."""
    return await classify_batch(engine, await parser.batch(request, record), record)


@router.get("/tasks")
async def tasks(engine: EngineDep, record: RecordDep) -> TaskList:
    """Every loaded task that the client may use."""
    models = [model for task, model in sorted(engine.catalog.live.items()) if record.allows(task)]
    return TaskList(tasks=[TaskSummary(**dict(model.manifest), precision=model.precision) for model in models])


@router.get("/tasks/{task}")
async def task(task: str, engine: EngineDep) -> TaskDetail:
    """All details of a task: its labels, its metrics by presence pattern, its provenance."""
    model = engine.catalog.find(task)
    manifest = model.manifest
    return TaskDetail(
        **dict(manifest),  # the fields of the same names
        precision=model.precision,
        towers={name: TowerDetail(**tower.execution._asdict()) for name, tower in model.towers.items()},
        highest_coverage=highest_coverages(manifest),
        max_logit_error=manifest.graphs[model.precision].max_logit_error,
        has_report=manifest.report is not None,
        refused=engine.catalog.refusal(manifest.task),
    )


@router.get("/tasks/{task}/examples")
async def examples(task: str, showcase: ShowcaseDep) -> TaskExamples:
    """Example inputs of a task: the golden examples of its live version."""
    return showcase.examples(task)


@router.get("/tasks/{task}/examples/{number}/image", response_class=Response, responses=_PICTURE)
async def example_image(task: str, number: int, showcase: ShowcaseDep) -> Response:
    """The picture of an example; examples are counted from 0."""
    picture = await showcase.picture(task, number)
    return Response(picture, media_type=media_type_of(picture), headers=_HARMLESS)


@router.get("/tasks/{task}/report", response_class=HTMLResponse)
async def report(task: str, showcase: ShowcaseDep) -> HTMLResponse:
    """The training report of the live version as a page."""
    return HTMLResponse(await showcase.report(task), headers=_HARMLESS)


@router.get("/tasks/{task}/versions")
async def versions(task: str, showcase: ShowcaseDep) -> TaskVersions:
    """Every version of a task in the store; the one that answers is `live`."""
    return await showcase.versions(task)


@router.get("/livez")
async def livez() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
async def readyz(engine: EngineDep) -> Health:
    """A task is loaded, and the threads that answer requests accept work."""
    engine.check_ready()
    return Health()


@scrape.get("/metrics", response_class=Response)
async def metrics(metrics: MetricsDep) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(await metrics.scrape(), media_type=CONTENT_TYPE_LATEST)
