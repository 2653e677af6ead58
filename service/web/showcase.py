"""Details of a task for people: its golden examples, its training report and its versions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from model_store import Manifest, Store, StoreError
from service.api.answers import TaskExample, TaskExamples, TaskVersion, TaskVersions
from service.errors import Code, ServiceError
from service.inference.workers import Workers
from service.models.catalog import Catalog

T = TypeVar("T")
_log = structlog.get_logger()


class Showcase:
    """Reads the store on a thread of its own, so that neither classification nor loading waits for it."""

    def __init__(self, catalog: Catalog, store: Store, queue_size: int) -> None:
        self._catalog = catalog
        self._store = store
        self._reading = Workers("showcase", 1, queue_size)

    def examples(self, task: str) -> TaskExamples:
        """The golden examples of the live version. Raises ServiceError."""
        manifest = self._with_examples(task)
        examples = [
            TaskExample(
                pattern=example.pattern,
                text=example.text or None,
                has_image=example.image is not None,
                best_label=manifest.labels[int(np.argmax(example.logits))] if manifest.labels else None,
            )
            for example in manifest.golden
        ]
        return TaskExamples(task=manifest.task, version=manifest.version, examples=examples)

    async def picture(self, task: str, number: int) -> bytes:
        """The encoded picture of a golden example, counted from 0. Raises ServiceError."""
        golden = self._with_examples(task).golden
        image = golden[number].image if 0 <= number < len(golden) else None
        if image is None:
            detail = "The example does not exist or has no picture; GET /tasks/{task}/examples lists the examples."
            raise ServiceError(Code.UNKNOWN_EXAMPLE, detail)
        return await self._run(partial(self._store.read, image))

    async def report(self, task: str) -> bytes:
        """The training report of the live version, an HTML document. Raises ServiceError."""
        report = self._catalog.find(task).manifest.report
        if report is None:
            detail = "This version was published without its training report."
            raise ServiceError(Code.NO_REPORT, detail)
        return await self._run(partial(self._store.read, report))

    async def versions(self, task: str) -> TaskVersions:
        """Every version of a loaded task that the store has, newest first. Raises ServiceError."""
        manifest = self._catalog.find(task).manifest
        numbers = await self._run(partial(self._store.versions, manifest.task))
        newest_first = [TaskVersion(version=number, live=number == manifest.version) for number in reversed(numbers)]
        return TaskVersions(task=manifest.task, versions=newest_first)

    def close(self) -> None:
        """Finish running reads and drop waiting ones."""
        self._reading.close()

    def _with_examples(self, task: str) -> Manifest:
        manifest = self._catalog.find(task).manifest
        if not manifest.shows_examples:
            raise ServiceError(Code.NO_EXAMPLES, "This version was published without examples of its data.")
        return manifest

    async def _run(self, job: Callable[[], T]) -> T:
        try:
            return (await self._reading.run(job)).result
        except (StoreError, OSError) as error:
            _log.error("store_unreadable", problem=str(error))
            detail = "The files of the store cannot be read; mora-store verify tells the reason."
            raise ServiceError(Code.STORE_UNREADABLE, detail) from error
