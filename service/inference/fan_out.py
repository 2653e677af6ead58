"""N inputs x M tasks: an input is prepared and goes through a trunk once, however many tasks ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

import structlog

from service.api.answers import Answer, BatchClassification, Latency
from service.api.item import Batch, Item
from service.api.problems import problem_of
from service.errors import ServiceError, internal
from service.inference.engine import Encoding, Engine
from service.models.loaded_model import Model
from service.telemetry.record import RequestRecord

Cell: TypeAlias = Answer | ServiceError
_INPUTS_AT_ONCE = 16  # so that one request does not fill the queues
_log = structlog.get_logger()


async def classify_batch(engine: Engine, batch: Batch, record: RequestRecord) -> BatchClassification:
    """A cell for each input and task; what is wrong with one is said in it and touches no other."""
    models = [_find(engine, task) for task in batch.tasks]
    rows = await answer_all(engine, models, batch.inputs, batch.top_k, record)
    record.finish()
    return BatchClassification(
        results=[
            [problem_of(cell, record.request_id) if isinstance(cell, ServiceError) else cell for cell in cells]
            for cells in rows
        ],
        latency_ms=Latency(**record.milliseconds()),
        request_id=record.request_id,
    )


async def answer_all(
    engine: Engine,
    models: Sequence[Model | ServiceError],
    items: Sequence[Item | ServiceError],
    top_k: int,
    record: RequestRecord,
) -> list[list[Cell]]:
    """A row for each item, a cell for each model; what is wrong with an item or a model stands in its cells."""
    places = asyncio.Semaphore(_INPUTS_AT_ONCE)

    async def row(item: Item | ServiceError) -> list[Cell]:
        if isinstance(item, ServiceError):
            return [item] * len(models)
        async with places:
            return await _row(engine, models, item, top_k, record)

    return await asyncio.gather(*map(row, items))


def _find(engine: Engine, task: str) -> Model | ServiceError:
    try:
        return engine.catalog.find(task)
    except ServiceError as error:
        return error


async def _row(
    engine: Engine, models: Sequence[Model | ServiceError], item: Item, top_k: int, record: RequestRecord
) -> list[Cell]:
    groups: dict[object, dict[str, Model]] = {}
    for model in models:
        if isinstance(model, Model):
            groups.setdefault(model.sharing, {})[model.manifest.task] = model
    cells: dict[str, Cell] = {}
    for group in groups.values():
        try:
            encoding = await engine.encode(list(group.values()), item, record)
        except Exception as error:  # what one input meets is no matter of its neighbours
            cells |= dict.fromkeys(group, _told(error, record))
        else:
            cells |= {task: _answer(engine, encoding, place, top_k, record) for place, task in enumerate(group)}
    return [cells[model.manifest.task] if isinstance(model, Model) else model for model in models]


def _answer(engine: Engine, encoding: Encoding, place: int, top_k: int, record: RequestRecord) -> Cell:
    try:
        return engine.answer(encoding, place, top_k, record)
    except Exception as error:
        return _told(error, record)


def _told(error: Exception, record: RequestRecord) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("internal_error", request_id=record.request_id, exc_info=error)
    return internal()
