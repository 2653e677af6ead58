"""From a request to an answer: find the model, prepare the item, encode it, decide."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.api.answers import Answer, Classification, Embedding, Explanation
from service.api.item import Item
from service.api.requests import ClassifyRequest, EmbedRequest
from service.errors import Code, ServiceError, forbidden_task, no_model
from service.inference.deadline import in_time
from service.inference.encoders import Encoders
from service.inference.explanation import explain
from service.inference.failure_watch import FailureWatch
from service.inference.label_sets import check_coverage, label_set, watched_size
from service.inference.preparation import Preparation
from service.inference.workers import Done, Workers
from service.models.catalog import Catalog
from service.models.head import Features, Vector
from service.models.loaded_model import Model
from service.models.preparation import Prepared
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord, Stage

T = TypeVar("T")
STALL_SECONDS = 5.0  # without progress, or with refusals only, until the service is not ready


class Engine:
    """Answers requests with the models of a catalog.

    Attributes:
        preparation: queues and threads that decode and tokenize.
        encoders: queues of the towers.
    """

    def __init__(self, catalog: Catalog, settings: Settings, metrics: Metrics) -> None:
        self.catalog = catalog
        self.preparation = Preparation(settings)
        self.encoders = Encoders(settings, metrics)
        self._metrics = metrics
        self._following = Workers("following", 1, 0)
        self._loading = Workers("loading", 1, settings.queue_size)  # of versions that clients pin
        self._failures = FailureWatch(catalog, metrics, settings.queue_size)
        self._is_draining = False

    async def classify(
        self, request: ClassifyRequest, record: RequestRecord, model: Model | None = None
    ) -> Classification:
        """Label one item, with `model` or else the version that the request names. Raises ServiceError."""
        model = model or await self.find(request.task, request.version, record)
        item = _item(request, model, record)
        model.check_has_labels()
        if request.coverage is not None:
            check_coverage(model.manifest, item.pattern, request.coverage)  # a refused item is never encoded
        prepared = await self.prepare([model], item, record)
        (features,) = await self.encode([model], prepared, record)
        answer = self.decide(model, prepared, features, request.top_k, record, request.coverage)
        fields = {name: getattr(answer, name) for name in answer.model_fields_set}  # others are left out of the answer
        if request.explain:
            fields["explanation"] = self._explain(model, features, answer, record)
        return Classification(**fields, latency_ms=record.finish(), request_id=record.request_id)

    async def embed(self, request: EmbedRequest, record: RequestRecord, model: Model | None = None) -> Embedding:
        """The vector of one item in a retrieval task; else its features, which are the input of the task's head.

        With `model`, or else the version that the request names. Raises ServiceError.
        """
        model = model or await self.find(request.task, request.version, record)
        item = _item(request, model, record)
        prepared = await self.prepare([model], item, record)
        (features,) = await self.encode([model], prepared, record)
        fields: dict[str, list[float] | None] = {}  # others are left out of the answer
        if model.is_retrieval:
            fields["embedding"] = self.vector(model, features).tolist()
        else:
            self.check_finite(model, features)
            fields["image_features"] = None if features.image is None else features.image.tolist()
            fields["text_features"] = None if features.text is None else features.text.tolist()
        return Embedding(
            task=model.manifest.task,
            version=model.manifest.version,
            modalities=prepared.modalities,
            latency_ms=record.finish(),
            request_id=record.request_id,
            **fields,
        )

    async def find(self, task: str | None, version: int | None, record: RequestRecord) -> Model:
        """The live model of a task, or the given version of it, loaded now if necessary. Raises ServiceError."""
        if task is not None and not record.allows(task):  # first, so that nobody learns which tasks exist
            raise forbidden_task()
        live = self.catalog.find(task)
        if not record.allows(live.manifest.task):
            raise forbidden_task()
        if version is None:
            return live
        name = live.manifest.task
        if loaded := self.catalog.loaded(name, version):
            return loaded
        async with in_time("loading", record.deadline, self._metrics):
            return (await self._loading.run(partial(self.catalog.pinned, name, version))).result

    async def prepare(self, models: Sequence[Model], item: Item, record: RequestRecord) -> Prepared:
        """Decode and tokenize an item once for models with equal `sharing`. Raises ServiceError."""
        self.encoders.check(models, item, record.deadline)  # a refused item is never decoded
        self.preparation.check(item)
        pixels = tokens = None
        with self._failures.watching(models):
            async with in_time("preparation", record.deadline, self._metrics):
                if item.image is not None:
                    pixels = await _recorded(Stage.DECODE, self.preparation.decode(models[0], item.image), record)
                if item.text is not None:
                    tokens = await _recorded(Stage.TOKENIZE, self.preparation.tokenize(models[0], item.text), record)
        return Prepared(pixels, tokens)

    async def encode(self, models: Sequence[Model], prepared: Prepared, record: RequestRecord) -> list[Features]:
        """Run a prepared item through the trunks once, and through each model's tails. Raises ServiceError."""
        submitted = time.perf_counter()
        with self._failures.watching(models):
            async with in_time("encoder", record.deadline, self._metrics):
                image, text = await self.encoders.encode(models, prepared, record.deadline)
        record.add(Stage.QUEUE, max(done.queue_seconds for done in (image, text) if done), submitted)
        for stage, done in ((Stage.IMAGE_ENCODER, image), (Stage.TEXT_ENCODER, text)):
            if done is not None:
                record.add(stage, done.run_seconds, submitted + done.queue_seconds)
        return [
            Features(image.result[index] if image else None, text.result[index] if text else None)
            for index in range(len(models))
        ]

    def decide(
        self,
        model: Model,
        prepared: Prepared,
        features: Features,
        top_k: int,
        record: RequestRecord,
        coverage: float | None = None,
    ) -> Answer:
        """A model's answer to an encoded item, with a label set if a coverage is given. It is counted in the metrics.

        Raises ServiceError `model_nonfinite` or `coverage_unsupported`.
        """
        start = time.perf_counter()
        manifest, pattern = model.manifest, features.pattern
        with self._failures.watching([model]):
            decision = model.decide(features)
            selected = [manifest.labels[index] for index in np.flatnonzero(decision.selected)]
            labels = decision.ranked(manifest.labels, top_k)
        answer = Answer(task=manifest.task, version=manifest.version, labels=labels, modalities=prepared.modalities)
        if coverage is not None:
            answer.label_set = label_set(manifest, pattern, decision, coverage)
        set_size = watched_size(manifest, pattern, decision)
        self._metrics.count_prediction(manifest.task, pattern, selected, float(decision.scores.max()), set_size)
        record.add(Stage.HEAD, time.perf_counter() - start)
        return answer

    def vector(self, model: Model, features: Features) -> Vector:
        """The vector (D,) of an encoded item in a retrieval task. Raises ServiceError `model_nonfinite`."""
        with self._failures.watching([model]):
            return model.logits(features)

    def check_finite(self, model: Model, features: Features) -> None:
        """Raises ServiceError `model_nonfinite`."""
        with self._failures.watching([model]):
            model.check_finite(features)  # logits are finite only if every feature is

    def check_ready(self) -> None:
        """Return if the service would answer a request. Raises ServiceError `draining`, `no_model` or `stalled`."""
        if self._is_draining:
            raise ServiceError(Code.DRAINING, "The service is about to stop; ask another instance.")
        if not self.catalog.live:
            raise no_model()
        encoders = (self.encoders.image, self.encoders.text)
        if any(part.is_stalled(STALL_SECONDS) for part in (self.preparation, *encoders)):
            detail = "A job has waited for seconds; ask another instance, and restart this one if it stays so."
            raise ServiceError(Code.STALLED, detail)
        if any(encoder.refuses_everything(STALL_SECONDS) for encoder in encoders):
            raise ServiceError(Code.STALLED, "Every request has been refused for seconds; ask another instance.")

    def drain(self) -> None:
        """Report from now on that the service is not ready. It still answers requests."""
        self._is_draining = True

    async def refresh(self) -> None:
        """Load versions that were published or activated since the last call."""
        await self._following.run(self.catalog.refresh)

    async def reread(self, trusted_keys: Path | None) -> None:
        """Read the file of trusted keys again, and try every refused version at the next refresh."""
        await self._following.run(partial(self.catalog.reread, trusted_keys))

    def close(self) -> None:
        """Finish running work and drop waiting work."""
        self.preparation.close()
        self._following.close()
        self._loading.close()
        self._failures.close()
        self.encoders.close()

    def _explain(self, model: Model, features: Features, answer: Answer, record: RequestRecord) -> Explanation:
        start = time.perf_counter()
        with self._failures.watching([model]):
            explanation = explain(model, features, answer.labels)
        record.add(Stage.HEAD, time.perf_counter() - start)
        return explanation


def _item(request: EmbedRequest, model: Model, record: RequestRecord) -> Item:
    """The item of a request. The record gets its presence pattern and the model that answers it."""
    item = Item(request.image, request.text)
    record.task, record.version, record.pattern = model.manifest.task, model.manifest.version, item.pattern
    return item


async def _recorded(stage: Stage, job: Awaitable[Done[T]], record: RequestRecord) -> T:
    """The result of a job. The record gets its wait and its run."""
    submitted = time.perf_counter()
    done = await job
    record.add(Stage.QUEUE, done.queue_seconds, submitted)
    record.add(stage, done.run_seconds, submitted + done.queue_seconds)
    return done.result
