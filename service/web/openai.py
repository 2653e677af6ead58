"""OpenAI's moderations and embeddings under /v1, so that OpenAI's clients work unchanged. A model is a task."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from fastapi import APIRouter, Request

from model_store import Manifest, Pattern
from service.api.answers import Answer, Modalities
from service.api.item import Item
from service.api.openai import (
    EmbeddingObject,
    EmbeddingRequest,
    EmbeddingResponse,
    EmbeddingUsage,
    InputType,
    ItemsRequest,
    Moderation,
    ModerationRequest,
    ModerationResponse,
)
from service.api.openapi import failures, inputs_body
from service.api.problems import OpenAIProblem
from service.errors import Code, ServiceError, about
from service.inference.engine import Engine
from service.inference.fan_out import answer_each
from service.models.head import Features, Vector
from service.models.loaded_model import Model
from service.models.preparation import Prepared
from service.telemetry.record import RequestRecord
from service.web.problems import OPENAI
from service.web.routes import EngineDep, ParserDep, RecordDep

router = APIRouter(prefix=OPENAI, responses=failures(OpenAIProblem))


@router.post("/moderations", openapi_extra={"requestBody": inputs_body(ModerationRequest)})
async def moderations(request: Request, parser: ParserDep, engine: EngineDep, record: RecordDep) -> ModerationResponse:
    """Label N items. The first item that cannot be answered fails the request, and the error names it."""
    inputs = await parser.inputs(ModerationRequest, request, record)
    model = await _find(engine, inputs.request, record)
    with about("model"):
        model.check_has_labels()
    manifest = model.manifest
    decide = partial(engine.decide, top_k=len(manifest.labels), record=record)
    with about("input"):
        answers = await answer_each(engine, model, inputs.items, decide, record)
    record.finish()
    results = [_moderation(answer) for answer in answers]
    return ModerationResponse(
        id=f"modr-{record.request_id}", model=manifest.task, version=manifest.version, results=results
    )


@router.post("/embeddings", openapi_extra={"requestBody": inputs_body(EmbeddingRequest)})
async def embeddings(request: Request, parser: ParserDep, engine: EngineDep, record: RecordDep) -> EmbeddingResponse:
    """Encode N items. The first item that cannot be encoded fails the request, and the error names it."""
    inputs = await parser.inputs(EmbeddingRequest, request, record)
    model = await _find(engine, inputs.request, record)
    manifest = model.manifest
    _check_dimensions(inputs.request.dimensions, manifest, inputs.items)
    with about("input"):
        encoded = await answer_each(engine, model, inputs.items, partial(_encoded, engine), record)
    record.finish()
    as_base64 = inputs.request.encoding_format == "base64"
    tokens = sum(item.tokens for item in encoded)
    return EmbeddingResponse(
        data=[
            EmbeddingObject(index=index, embedding=_written(item.vector, as_base64), modalities=item.modalities)
            for index, item in enumerate(encoded)
        ],
        model=manifest.task,
        version=manifest.version,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


class _Encoded(NamedTuple):
    """The vector of one item, or its features in one vector, and the number of tokens of its text."""

    vector: Vector
    tokens: int
    modalities: Modalities


async def _find(engine: Engine, request: ItemsRequest, record: RequestRecord) -> Model:
    with about("model"):
        return await engine.find(request.model, request.version, record)


def _moderation(answer: Answer) -> Moderation:
    types: list[InputType] = []
    if answer.modalities.text != "absent":
        types.append("text")
    if answer.modalities.image != "absent":
        types.append("image")
    categories = {label.label: label.selected for label in answer.labels}
    return Moderation(
        flagged=any(categories.values()),
        categories=categories,
        category_scores={label.label: label.score for label in answer.labels},
        category_applied_input_types=dict.fromkeys(categories, types),
        modalities=answer.modalities,
    )


def _check_dimensions(dimensions: int | None, manifest: Manifest, items: Sequence[Item]) -> None:
    """Raises ServiceError for a length that the embeddings do not have. Several items are all texts."""
    features = manifest.backbone.feature_size * (2 if items[0].pattern is Pattern.BOTH else 1)
    length = manifest.embedding_size or features
    if dimensions not in (None, length):
        detail = f"dimensions: the embeddings have {length} numbers and cannot be cut; leave it out."
        raise ServiceError(Code.BAD_VALUE, detail, field="dimensions")


def _encoded(engine: Engine, model: Model, prepared: Prepared, features: Features) -> _Encoded:
    tokens = 0 if prepared.tokens is None else prepared.tokens.input_ids.shape[1]
    if model.is_retrieval:
        return _Encoded(engine.vector(model, features), tokens, prepared.modalities)
    engine.check_finite(model, features)
    present = [modality for modality in features if modality is not None]
    return _Encoded(np.concatenate(present), tokens, prepared.modalities)


def _written(vector: Vector, as_base64: bool) -> list[float] | str:
    if as_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
