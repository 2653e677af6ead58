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
from numpy.typing import NDArray

from service.api.answers import Answer
from service.api.inference_metadata import (
    MODALITIES,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from service.api.item import Item
from service.api.open_inference import InferenceRequest, InferenceResponse
from service.api.openapi import failures, inference_body
from service.api.problems import InferenceProblemDetails
from service.errors import Code, ServiceError, unknown_version
from service.inference.engine import Engine
from service.inference.fan_out import answer_each
from service.models.head import Features, Vector
from service.models.loaded_model import Model
from service.models.preparation import Prepared
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
    """Label N items, or encode them in a retrieval task. The first item that cannot be answered fails the request.

    The problem names the item.
    """
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
    manifest = model.manifest
    metadata = ModelMetadata(name=manifest.task, versions=[str(manifest.version)])
    if manifest.embedding_size is not None:
        vector = TensorMetadata(name="embedding", datatype="FP32", shape=[-1, manifest.embedding_size])
        metadata.outputs = [vector, MODALITIES]
    return metadata


async def _ready(engine: Engine, model: Model) -> ModelReady:
    engine.check_ready()
    return ModelReady(name=model.manifest.task)


async def _infer(engine: Engine, model: Model, inference: Inference, record: RequestRecord) -> Response:
    task, version, labels = model.manifest.task, model.manifest.version, model.manifest.labels
    parameters = inference.request.parameters
    _check_outputs(model, inference.request)
    if model.is_retrieval:
        vectors = await answer_each(engine, model, inference.items, partial(_vector, engine), record)
        tensors: dict[str, Array] = {"embedding": np.stack(vectors), "modalities": _modalities(inference.items)}
    else:
        top_k = parameters.top_k or len(labels)
        decide = partial(engine.decide, top_k=top_k, coverage=parameters.coverage, record=record)
        tensors = _tensors(inference.items, await answer_each(engine, model, inference.items, decide, record))
    record.finish()
    client_id = inference.request.id or ""
    answer_id = client_id if SAFE_ID.fullmatch(client_id) else record.request_id
    return respond(inference.request, task, version, answer_id, tensors)


def _check_outputs(model: Model, request: InferenceRequest) -> None:
    """Raises ServiceError for an output or a parameter that the task does not have."""
    parameters = request.parameters
    names = {output.name for output in request.outputs or ()}
    if parameters.top_k is not None or parameters.coverage is not None or names - {"embedding", "modalities"}:
        model.check_has_labels()
    if "embedding" in names and not model.is_retrieval:
        detail = "The output embedding is of retrieval tasks; GET /v2/models/{task} lists the outputs of a task."
        raise ServiceError(Code.BAD_VALUE, detail, field="outputs")


def _vector(engine: Engine, model: Model, _: Prepared, features: Features) -> Vector:
    return engine.vector(model, features)


def _modalities(items: Sequence[Item]) -> NDArray[np.str_]:
    return np.array([item.pattern.value for item in items], np.str_)


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
        "modalities": _modalities(items),
    }
