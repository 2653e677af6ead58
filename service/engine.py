"""From a request to an answer: find the model, prepare the item, run its towers, apply the head."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import numpy as np
from starlette.requests import Request

from service.bodies import parse_request, read_body
from service.catalog import Catalog
from service.encoders import Encoders
from service.errors import Code, ServiceError
from service.head import Vector, scores, selected
from service.metrics import Metrics
from service.model import Item, Model, Prepared
from service.record import RequestRecord, Stage
from service.settings import Settings
from service.wire import Classification, ClassifyRequest, LabelScore, Latency, Modalities, Modality
from service.workers import Workers

_PROBE_SECONDS = 5.0


class Engine:
    """Answers requests with the models of a catalog."""

    def __init__(self, catalog: Catalog, settings: Settings, metrics: Metrics) -> None:
        self.catalog = catalog
        self._settings = settings
        self._metrics = metrics
        self._preparation = Workers("preparation", settings.preparation_workers, settings.queue_size)
        self._loading = Workers("loading", 1, settings.queue_size)
        self._encoders = Encoders(settings, metrics)

    async def parse(self, request: Request, record: RequestRecord) -> ClassifyRequest:
        """What a request asks for, its body read no further than the limit. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes)
        content_type = request.headers["content-type"]
        done = await self._preparation.run(partial(parse_request, body, content_type, self._settings.max_text_bytes))
        record.add(Stage.QUEUE, done.queue_seconds)
        return done.result

    async def classify(self, request: ClassifyRequest, record: RequestRecord) -> Classification:
        """The labels of one item. Raises ServiceError."""
        item = Item(request.image, request.text)
        model = await self._model_of(request)
        record.task, record.version, record.pattern = model.manifest.task, model.manifest.version, item.pattern

        prepared = await self._preparation.run(partial(model.prepare, item))
        record.add(Stage.QUEUE, prepared.queue_seconds)
        record.add(Stage.DECODE, prepared.result.decode_seconds)
        record.add(Stage.TOKENIZE, prepared.result.tokenize_seconds)

        image, text = await self._encoders.encode(model, prepared.result)
        record.add(Stage.QUEUE, max(image.queue_seconds if image else 0.0, text.queue_seconds if text else 0.0))
        record.add(Stage.IMAGE_ENCODER, image.run_seconds if image else 0.0)
        record.add(Stage.TEXT_ENCODER, text.run_seconds if text else 0.0)

        start = time.perf_counter()
        logits = model.logits(image.result if image else None, text.result if text else None)
        labels = self._label(model, item, logits)
        record.add(Stage.HEAD, time.perf_counter() - start)
        record.finish()
        return Classification(
            task=model.manifest.task,
            version=model.manifest.version,
            labels=labels[: request.top_k],
            modalities=_modalities(prepared.result),
            latency_ms=Latency(**record.milliseconds()),
            request_id=record.request_id,
        )

    async def check_ready(self) -> None:
        """Return when a request would be answered. Raises ServiceError `no_model` or `stalled`."""
        if not self.catalog.live:
            raise ServiceError(Code.NO_MODEL, "No task is loaded yet.")
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await asyncio.gather(self._preparation.probe(), self._encoders.probe())
        except TimeoutError as error:
            raise ServiceError(Code.STALLED, "Some work has been waiting for seconds.") from error

    async def refresh(self) -> None:
        """Load what has been published or activated since the last time."""
        await self._loading.run(self.catalog.refresh)

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._preparation.close()
        self._loading.close()
        self._encoders.close()

    async def _model_of(self, request: ClassifyRequest) -> Model:
        live = self.catalog.find(request.task)
        if request.version is None:
            return live
        task = live.manifest.task
        loaded = self.catalog.loaded(task, request.version)
        return loaded or (await self._loading.run(partial(self.catalog.pinned, task, request.version))).result

    def _label(self, model: Model, item: Item, logits: Vector) -> list[LabelScore]:
        """Every label, best first; counts the answer."""
        manifest = model.manifest
        calibration = manifest.calibration[item.pattern]
        by_label = scores(logits, manifest.problem, calibration)
        chosen = selected(by_label, calibration)
        for index in np.flatnonzero(chosen):
            self._metrics.predictions.labels(manifest.task, manifest.labels[index]).inc()
        self._metrics.prediction_confidence.labels(manifest.task, item.pattern).observe(float(by_label.max()))
        return [
            LabelScore(label=manifest.labels[index], score=float(by_label[index]), selected=bool(chosen[index]))
            for index in np.argsort(-by_label, kind="stable")
        ]


def _modalities(prepared: Prepared) -> Modalities:
    text: Modality = "absent"
    if prepared.tokens is not None:
        text = "truncated" if prepared.tokens.truncated else "used"
    return Modalities(image="absent" if prepared.pixel_values is None else "used", text=text)
