"""From a request to an answer: find the model, prepare the item, run its towers, apply the head."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from starlette.requests import Request

from model_store import Pattern
from service.api.answers import (
    Answer,
    Classification,
    Embedding,
    Explanation,
    LabelScore,
    Latency,
    Modalities,
    Modality,
)
from service.api.item import Batch, Item
from service.api.requests import ClassifyRequest, EmbedRequest
from service.errors import Code, ServiceError, no_model
from service.inference.encoders import Encoded, Encoders
from service.inference.explanation import explain
from service.inference.workers import Workers
from service.models.catalog import Catalog
from service.models.decision import decide, ranked
from service.models.head import Vector
from service.models.loaded_model import Model, Prepared
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord, Stage
from service.web.bodies import JSON, MULTIPART, Asked, parse_batch, parse_request, read_body
from service.web.tensors import BINARY, HEADER_LENGTH, Inference, parse_inference

T = TypeVar("T")
_PROBE_SECONDS = 5.0
_NONFINITE_BEFORE_RECHECK = 5  # answers that are not finite, after which a version has to prove itself


class Encoding(NamedTuple):
    """One item as models that share their trunks see it."""

    models: Sequence[Model]
    pattern: Pattern
    modalities: Modalities
    features: Encoded

    def vectors(self, index: int) -> tuple[Vector | None, Vector | None]:
        """Image and text features (P,) as one of the models sees them; None for an absent modality."""
        image, text = self.features
        return image.result[index] if image else None, text.result[index] if text else None


class Engine:
    """Answers requests with the models of a catalog."""

    def __init__(self, catalog: Catalog, settings: Settings, metrics: Metrics) -> None:
        self.catalog = catalog
        self._settings = settings
        self._metrics = metrics
        self._preparation = Workers("preparation", settings.preparation_workers, settings.queue_size)
        self._loading = Workers("loading", 1, settings.queue_size)
        self._encoders = Encoders(settings, metrics)
        self._is_draining = False
        self._nonfinite: Counter[tuple[str, int]] = Counter()
        self._rechecks: set[asyncio.Task[None]] = set()

    async def parse(self, form: type[Asked], request: Request, record: RequestRecord) -> Asked:
        """What a request for one item asks for, its body read no further than the limit. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON, MULTIPART))
        content_type = request.headers["content-type"]
        job = partial(parse_request, form, body, content_type, self._settings.max_text_bytes)
        parsed = await self._prepare(job, record)
        record.allow(parsed.timeout_ms or self._settings.timeout_ms)
        return parsed

    async def parse_batch(self, request: Request, record: RequestRecord) -> Batch:
        """What a request for several items asks for, its body read no further than the limit. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON,))
        limits = self._settings.max_text_bytes, self._settings.max_batch_cells
        parsed = await self._prepare(partial(parse_batch, body, *limits), record)
        record.allow(parsed.timeout_ms or self._settings.timeout_ms)
        return parsed

    async def parse_inference(self, request: Request, record: RequestRecord) -> Inference:
        """What a request of the Open Inference Protocol asks for. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON, BINARY, ""))  # some clients name no type
        limits = self._settings.max_text_bytes, self._settings.max_batch_cells
        job = partial(parse_inference, body, request.headers.get(HEADER_LENGTH), *limits)
        parsed = await self._prepare(job, record)
        record.allow(self._settings.timeout_ms)
        return parsed

    async def classify(self, request: ClassifyRequest, record: RequestRecord) -> Classification:
        """The labels of one item. Raises ServiceError."""
        model = await self.model_of(request.task, request.version, record)
        return await self.classify_with(model, request, record)

    async def classify_with(self, model: Model, request: ClassifyRequest, record: RequestRecord) -> Classification:
        """The labels that one version gives an item, whatever task the request names. Raises ServiceError."""
        encoded = await self._encode_for(model, request, record)
        answer = self.answer(encoded, 0, request.top_k, record)
        explanation = self._explain(encoded, answer, record) if request.explain else None
        record.finish()
        latency = Latency(**record.milliseconds())
        classification = Classification(**dict(answer), latency_ms=latency, request_id=record.request_id)
        if explanation is not None:
            classification.explanation = explanation  # unset, it does not go out
        return classification

    async def embed(self, request: EmbedRequest, record: RequestRecord) -> Embedding:
        """The features of one item, as the head of a task sees them. Raises ServiceError."""
        model = await self.model_of(request.task, request.version, record)
        encoded = await self._encode_for(model, request, record)
        self._logits(encoded, 0)  # finite only if every feature is
        image, text = encoded.vectors(0)
        record.finish()
        return Embedding(
            task=model.manifest.task,
            version=model.manifest.version,
            image_features=None if image is None else image.tolist(),
            text_features=None if text is None else text.tolist(),
            modalities=encoded.modalities,
            latency_ms=Latency(**record.milliseconds()),
            request_id=record.request_id,
        )

    async def model_of(self, task: str | None, version: int | None, record: RequestRecord) -> Model:
        """The live model of a task, or that version of it, loaded now if need be. Raises ServiceError."""
        live = self.catalog.find(task)
        if version is None:
            return live
        name = live.manifest.task
        if loaded := self.catalog.loaded(name, version):
            return loaded
        if math.isinf(record.deadline):  # a request without a body
            record.allow(self._settings.timeout_ms)
        async with self._in_time("loading", record):
            return (await self._loading.run(partial(self.catalog.pinned, name, version))).result

    async def encode(self, models: Sequence[Model], item: Item, record: RequestRecord) -> Encoding:
        """Prepare an item and run its trunks once, for models that `sharing` calls alike. Raises ServiceError."""
        self._encoders.check(models, item, record.deadline)  # before a picture is decoded for nothing
        async with self._in_time("preparation", record):
            prepared = await self._prepare(partial(models[0].prepare, item), record)
        record.add(Stage.DECODE, prepared.decode_seconds, prepared.started)
        record.add(Stage.TOKENIZE, prepared.tokenize_seconds, prepared.started + prepared.decode_seconds)
        submitted = time.perf_counter()
        async with self._in_time("encoder", record):
            features = await self._encoders.encode(models, prepared, record.deadline)
        record.add(Stage.QUEUE, max(done.queue_seconds for done in features if done), submitted)
        for stage, done in zip((Stage.IMAGE_ENCODER, Stage.TEXT_ENCODER), features, strict=True):
            if done is not None:
                record.add(stage, done.run_seconds, submitted + done.queue_seconds)
        return Encoding(models, item.pattern, _modalities(prepared), features)

    def answer(self, encoding: Encoding, index: int, top_k: int, record: RequestRecord) -> Answer:
        """What one of the models says of an encoded item; counts it. Raises ServiceError `model_nonfinite`."""
        start = time.perf_counter()
        model = encoding.models[index]
        logits = self._logits(encoding, index)
        labels = self._label(model, encoding.pattern, logits, top_k)
        record.add(Stage.HEAD, time.perf_counter() - start)
        return Answer(
            task=model.manifest.task,
            version=model.manifest.version,
            labels=labels,
            modalities=encoding.modalities,
        )

    async def check_ready(self) -> None:
        """Return when a request would be answered. Raises ServiceError `draining`, `no_model` or `stalled`."""
        if self._is_draining:
            raise ServiceError(Code.DRAINING, "The service is about to stop; ask another.")
        if not self.catalog.live:
            raise no_model()
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await asyncio.gather(self._preparation.probe(), self._encoders.probe())
        except TimeoutError as error:
            raise ServiceError(
                Code.STALLED, "Some work has been waiting for seconds; ask another, and restart this one if it lasts."
            ) from error

    def drain(self) -> None:
        """Be ready no more, and answer as before."""
        self._is_draining = True

    async def refresh(self) -> None:
        """Load what has been published or activated since the last time."""
        await self._loading.run(self.catalog.refresh)

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._preparation.close()
        self._loading.close()
        self._encoders.close()

    @asynccontextmanager
    async def _in_time(self, stage: str, record: RequestRecord) -> AsyncIterator[None]:
        """Cancel what is inside when the request's time is over. Raises ServiceError `deadline`."""
        limit = asyncio.timeout(record.deadline - time.perf_counter())
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._metrics.deadline.labels(stage).inc()
            raise ServiceError(Code.DEADLINE, "The answer was not there in time; timeout_ms allows more.") from error

    async def _prepare(self, job: Callable[[], T], record: RequestRecord) -> T:
        submitted = time.perf_counter()
        done = await self._preparation.run(job)
        record.add(Stage.QUEUE, done.queue_seconds, submitted)
        return done.result

    async def _encode_for(self, model: Model, request: EmbedRequest, record: RequestRecord) -> Encoding:
        item = Item(request.image, request.text)
        record.task, record.version, record.pattern = model.manifest.task, model.manifest.version, item.pattern
        return await self.encode([model], item, record)

    def _logits(self, encoding: Encoding, index: int) -> Vector:
        """(C,) of one of the models; a version whose answers are not finite has to prove itself now and then."""
        model = encoding.models[index]
        try:
            return model.logits(*encoding.vectors(index))
        except ServiceError:
            self._count_nonfinite(model)
            raise

    def _count_nonfinite(self, model: Model) -> None:
        """Now and then have the version prove itself: an input may be at fault, which is no reason to lose the task."""
        manifest = model.manifest
        self._metrics.nonfinite.labels(manifest.task).inc()
        self._nonfinite[manifest.task, manifest.version] += 1
        if self._nonfinite[manifest.task, manifest.version] % _NONFINITE_BEFORE_RECHECK == 0:
            recheck = asyncio.create_task(self._recheck(model))
            self._rechecks.add(recheck)  # the event loop itself holds tasks only weakly
            recheck.add_done_callback(self._rechecks.discard)

    async def _recheck(self, model: Model) -> None:
        with suppress(ServiceError):  # too many loads wait already; the next answers will ask again
            await self._loading.run(partial(self.catalog.recheck, model))

    def _explain(self, encoding: Encoding, answer: Answer, record: RequestRecord) -> Explanation:
        start = time.perf_counter()
        explanation = explain(encoding.models[0], *encoding.vectors(0), answer.labels)
        record.add(Stage.HEAD, time.perf_counter() - start)
        return explanation

    def _label(self, model: Model, pattern: Pattern, logits: Vector, top_k: int) -> list[LabelScore]:
        """The best labels, best first; counts the answer."""
        manifest = model.manifest
        decision = decide(manifest, pattern, logits)
        for place in np.flatnonzero(decision.selected):
            self._metrics.predictions.labels(manifest.task, manifest.labels[place]).inc()
        self._metrics.prediction_confidence.labels(manifest.task, pattern).observe(float(decision.scores.max()))
        return ranked(manifest, decision, top_k)


def _modalities(prepared: Prepared) -> Modalities:
    text: Modality = "absent"
    if prepared.tokens is not None:
        text = "truncated" if prepared.tokens.truncated else "used"
    return Modalities(image="absent" if prepared.pixel_values is None else "used", text=text)
