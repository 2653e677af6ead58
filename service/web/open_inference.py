"""The Open Inference Protocol under /v2, so that clients of KServe and Triton work unchanged.

A task is a model with the BYTES inputs `image` and `text`, either of which may be left out. The body of a problem has
the usual fields and `error`, which those clients show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from service.api.answers import Answer
from service.api.inference_metadata import Live, ModelMetadata, ModelReady, Ready, ServerMetadata
from service.api.item import Item
from service.api.open_inference import InferenceResponse
from service.api.openapi import failures, inference_body
from service.api.problems import InferenceProblemDetails
from service.errors import unknown_version
from service.inference.engine import Engine
from service.inference.fan_out import answer_each
from service.models.loaded_model import Model
from service.telemetry.record import SAFE_ID, RequestRecord
from service.web.problems import OPEN_INFERENCE
from service.web.routes import EngineDep, ParserDep, RecordDep
from service.web.tensors import BINARY, Array, Inference, respond

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_INFER: dict[str, Any] = {
    "response_model": InferenceResponse,
    "responses": {200: {"content": {BINARY: {}}}},
    "openapi_extra": {"requestBody": inference_body()},
}
router = APIRouter(prefix=OPEN_INFERENCE, responses=failures(InferenceProblemDetails))


@router.get("")
async def server_metadata() -> ServerMetadata:
    """The service's name and version, and its extensions of the Open Inference Protocol."""
    return ServerMetadata(version=installed_version("mora-serve"))


@router.get("/health/live")
async def live() -> Live:
    """The process answers."""
    return Live()


@router.get("/health/ready")
async def ready(engine: EngineDep) -> Ready:
    """A task is loaded, and the threads that answer requests accept work."""
    engine.check_ready()
    return Ready()


@router.get("/models/{task}")
async def model_metadata(task: str, engine: EngineDep, record: RecordDep) -> ModelMetadata:
    """The tensors of a task, and its live version."""
    return _metadata(await _find(engine, record, task))


@router.get("/models/{task}/versions/{version}")
async def version_metadata(task: str, version: str, engine: EngineDep, record: RecordDep) -> ModelMetadata:
    """The tensors of a version, which is loaded if necessary."""
    return _metadata(await _find(engine, record, task, version))


@router.get("/models/{task}/ready")
async def model_ready(task: str, engine: EngineDep, record: RecordDep) -> ModelReady:
    """A request for this task would be answered."""
    return await _ready(engine, await _find(engine, record, task))


@router.get("/models/{task}/versions/{version}/ready")
async def version_ready(task: str, version: str, engine: EngineDep, record: RecordDep) -> ModelReady:
    """A request for this version would be answered. The version is loaded if necessary."""
    return await _ready(engine, await _find(engine, record, task, version))


async def _inference(request: Request, parser: ParserDep, record: RecordDep) -> Inference:
    return await parser.inference(request, record)


InferenceDep = Annotated[Inference, Depends(_inference)]


@router.post("/models/{task}/infer", **_INFER)
async def infer(task: str, body: InferenceDep, engine: EngineDep, record: RecordDep) -> Response:
    """Label N items. The first item that cannot be answered fails the request, and the problem names it."""
    return await _infer(engine, await _find(engine, record, task), body, record)


@router.post("/models/{task}/versions/{version}/infer", **_INFER)
async def infer_version(task: str, version: str, body: InferenceDep, engine: EngineDep, record: RecordDep) -> Response:
    """Label N items with a pinned version."""
    return await _infer(engine, await _find(engine, record, task, version), body, record)


async def _find(engine: Engine, record: RequestRecord, task: str, version: str | None = None) -> Model:
    if version is not None and not _VERSION.fullmatch(version):
        raise unknown_version()
    return await engine.find(task, None if version is None else int(version), record)


def _metadata(model: Model) -> ModelMetadata:
    return ModelMetadata(name=model.manifest.task, versions=[str(model.manifest.version)])


async def _ready(engine: Engine, model: Model) -> ModelReady:
    engine.check_ready()
    return ModelReady(name=model.manifest.task)


async def _infer(engine: Engine, model: Model, inference: Inference, record: RequestRecord) -> Response:
    task, version, labels = model.manifest.task, model.manifest.version, model.manifest.labels
    parameters = inference.request.parameters
    top_k = parameters.top_k or len(labels)
    decide = partial(engine.decide, top_k=top_k, coverage=parameters.coverage, record=record)
    answers = await answer_each(engine, model, inference.items, decide, record)
    record.finish()
    client_id = inference.request.id or ""
    answer_id = client_id if SAFE_ID.fullmatch(client_id) else record.request_id
    return respond(inference.request, task, version, answer_id, _tensors(inference.items, answers))


def _tensors(items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, Array]:
    """The outputs by name: (N, C), and of `modalities` (N,)."""
    rows = [answer.labels for answer in answers]
    sets = [answer.label_set for answer in answers if answer.label_set is not None]
    with_sets: dict[str, Array] = {}
    if sets:
        in_set = [[label.label in each.labels for label in row] for row, each in zip(rows, sets, strict=True)]
        review = [each.review for each in sets]
        with_sets = {
            "label_set": np.array(in_set, np.bool_),
            "review": np.array(review, np.bool_),
        }
    return {
        "labels": np.array([[label.label for label in row] for row in rows], np.str_),
        "scores": np.array([[label.score for label in row] for row in rows], np.float32),
        "selected": np.array([[label.selected for label in row] for row in rows], np.bool_),
        **with_sets,
        "modalities": np.array([item.pattern.value for item in items], np.str_),
    }
