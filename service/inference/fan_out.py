"""N inputs x M tasks: an input is prepared once and runs through each trunk once, for all tasks together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import TypeAlias, TypeVar

import structlog

from service.api.answers import BatchClassification
from service.api.item import Batch, Item
from service.api.problems import problem_of
from service.errors import ServiceError, at_item, forbidden_task, internal
from service.inference.engine import Engine
from service.models.head import Features
from service.models.loaded_model import Model
from service.models.preparation import Prepared
from service.telemetry.record import CountedCell, RequestRecord

T = TypeVar("T")
Finish: TypeAlias = Callable[[Model, Prepared, Features], T]  # from an encoded item to a model's answer
_INPUTS_AT_ONCE = 16  # so that one request does not fill the queues
_log = structlog.get_logger()


async def classify_batch(engine: Engine, batch: Batch, record: RequestRecord) -> BatchClassification:
    """A cell for each input and task; an error fills its own cell only."""
    models = [_find_labeller(engine, task, record) for task in batch.tasks]
    decide = partial(engine.decide, top_k=batch.top_k, coverage=batch.coverage, record=record)
    rows = await answer_all(engine, models, batch.inputs, decide, record)
    return BatchClassification(
        results=[
            [problem_of(cell, record.request_id) if isinstance(cell, ServiceError) else cell for cell in cells]
            for cells in rows
        ],
        latency_ms=record.finish(),
        request_id=record.request_id,
    )


async def answer_all(
    engine: Engine,
    models: Sequence[Model | ServiceError],
    items: Sequence[Item | ServiceError],
    finish: Finish[T],
    record: RequestRecord,
) -> list[list[T | ServiceError]]:
    """A row for each item with a cell for each model. The error of an item or a model fills its cells."""
    at_once = asyncio.Semaphore(_INPUTS_AT_ONCE)
    groups: dict[object, dict[str, Model]] = {}
    for model in models:
        if isinstance(model, Model):
            groups.setdefault(model.sharing, {})[model.manifest.task] = model

    async def row(item: Item | ServiceError) -> list[T | ServiceError]:
        if isinstance(item, ServiceError):
            return [item] * len(models)
        cells: dict[str, T | ServiceError] = {}
        async with at_once:
            for group in groups.values():
                cells |= await _cells(engine, group, item, finish, record)
        return [cells[model.manifest.task] if isinstance(model, Model) else model for model in models]

    rows = await asyncio.gather(*map(row, items))
    for item, row_cells in zip(items, rows, strict=True):
        record.cells.update(map(partial(_counted, item), models, row_cells))
    return rows


async def answer_each(
    engine: Engine, model: Model, items: Sequence[Item], finish: Finish[T], record: RequestRecord
) -> list[T]:
    """A model's answer to each item. Raises the ServiceError of the first item without one, which names its index."""
    record.task, record.version = model.manifest.task, model.manifest.version
    record.pattern = items[0].pattern if len(items) == 1 else None  # of a batch: of each cell
    answers = []
    for index, (cell,) in enumerate(await answer_all(engine, [model], items, finish, record)):
        if isinstance(cell, ServiceError):
            raise at_item(index, cell)
        answers.append(cell)
    return answers


def _counted(item: Item | ServiceError, model: Model | ServiceError, cell: object) -> CountedCell:
    task = model.manifest.task if isinstance(model, Model) else ""  # a client may name any task
    modalities = item.pattern if isinstance(item, Item) else ""
    if isinstance(cell, ServiceError):
        return CountedCell(task, modalities, cell.code.status, cell.code.reason)
    return CountedCell(task, modalities, HTTPStatus.OK, None)


def _find_labeller(engine: Engine, task: str, record: RequestRecord) -> Model | ServiceError:
    if not record.allows(task):
        return forbidden_task()
    try:
        model = engine.catalog.find(task)
        model.check_has_labels()
        return model
    except ServiceError as error:
        return error


async def _cells(
    engine: Engine, models: dict[str, Model], item: Item, finish: Finish[T], record: RequestRecord
) -> dict[str, T | ServiceError]:
    """The cells of one item for models that share their trunks, by task."""
    cells: dict[str, T | ServiceError] = {}
    try:
        prepared = await engine.prepare([*models.values()], item, record)
        features = await engine.encode([*models.values()], prepared, record)
    except Exception as error:  # the other inputs are still answered
        return dict.fromkeys(models, _service_error(error, record))
    for (task, model), own_features in zip(models.items(), features, strict=True):
        try:
            cells[task] = finish(model, prepared, own_features)
        except Exception as error:
            cells[task] = _service_error(error, record)
    return cells


def _service_error(error: Exception, record: RequestRecord) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    _log.error("internal_error", request_id=record.request_id, exc_info=error)
    return internal()
