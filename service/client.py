"""A client of the service for programs in Python."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from urllib.parse import quote

from model_store.service_connection import ClientError, NoAnswerError, ProblemError, RetryBudget, ServiceConnection
from service.api.answers import BatchClassification, Classification, Embedding, TaskDetail, TaskList
from service.api.requests import Input

__all__ = ["Client", "ClientError", "NoAnswerError", "ProblemError", "RetryBudget"]


class Client(ServiceConnection):
    """A service at `url`, with a method for each kind of request. Every method raises ClientError.

    Classification changes nothing, so repeating a request is safe.
    """

    def classify(
        self,
        image: bytes | None = None,
        text: str | None = None,
        *,
        task: str | None = None,
        top_k: int = 5,
        version: int | None = None,
        explain: bool = False,
        coverage: float | None = None,
        timeout_ms: int | None = None,
    ) -> Classification:
        """Label one item from its image (a JPEG, PNG, WebP, AVIF or GIF file), its text, or both.

        Args:
            task: may be left out when exactly one task is loaded.
            top_k: how many labels to answer with, best first.
            version: pins a version; by default the live one.
            explain: adds the part of each modality in each label to the answer.
            coverage: adds `label_set` to the answer, from 0.5 to the `highest_coverage` of the task.
            timeout_ms: time limit of the service for one attempt, by default its `MORA_TIMEOUT_MS`.
        """
        fields = {"task": task, "top_k": top_k, "version": version, "timeout_ms": timeout_ms}
        newer = _given(explain=explain or None, coverage=coverage)
        return self.call(Classification, "/classify", {**_item(image, text), **fields, **newer})

    def embed(
        self,
        image: bytes | None = None,
        text: str | None = None,
        *,
        task: str | None = None,
        version: int | None = None,
        timeout_ms: int | None = None,
    ) -> Embedding:
        """The vector of one item in a retrieval task, else its features, which are not normalised.

        The arguments are those of `classify`.
        """
        fields = {"task": task, "version": version, "timeout_ms": timeout_ms}
        return self.call(Embedding, "/embed", {**_item(image, text), **fields})

    def classify_batch(
        self,
        inputs: Sequence[Input],
        tasks: Sequence[str],
        *,
        top_k: int = 5,
        coverage: float | None = None,
        timeout_ms: int | None = None,
    ) -> BatchClassification:
        """Label several items in each of several tasks: a row for each input with a cell for each task.

        A cell is an answer, or the problem of this cell alone, which is not retried.
        """
        items = [_item(item.image, item.text) for item in inputs]
        fields = {"inputs": items, "tasks": [*tasks], "top_k": top_k, "timeout_ms": timeout_ms}
        return self.call(BatchClassification, "/classify/batch", {**fields, **_given(coverage=coverage)})

    def tasks(self) -> TaskList:
        """Every loaded task."""
        return self.call(TaskList, "/tasks")

    def task(self, name: str) -> TaskDetail:
        """All details of the live version of a task."""
        return self.call(TaskDetail, f"/tasks/{quote(name, safe='')}")


def _item(image: bytes | None, text: str | None) -> dict[str, object]:
    return {"image": None if image is None else base64.b64encode(image).decode(), "text": text}


def _given(**fields: object) -> dict[str, object]:
    """The fields without those that are None, because a service refuses fields that are newer than itself."""
    return {name: value for name, value in fields.items() if value is not None}
