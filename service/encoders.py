"""Where the towers run: one queue and one set of threads for each encoder, joined only at the head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from service.head import Vector
from service.metrics import Metrics
from service.model import Model, Prepared
from service.settings import Settings
from service.workers import Done, Workers


class Encoded(NamedTuple):
    """Features (P,) of the modalities an item has, with what they cost; None for an absent one."""

    image: Done[Vector] | None
    text: Done[Vector] | None


class Encoders:
    """Runs the towers of one item side by side; an absent modality's tower never runs."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._image = Workers("image", settings.encoder_workers, settings.queue_size)
        self._text = Workers("text", settings.encoder_workers, settings.queue_size)
        self._metrics = metrics
        metrics.queue_depth.labels("image").set_function(lambda: self._image.waiting)
        metrics.queue_depth.labels("text").set_function(lambda: self._text.waiting)

    async def encode(self, model: Model, prepared: Prepared) -> Encoded:
        """The features of a prepared item. Raises ServiceError `queue_full`."""
        pixel_values, tokens = prepared.pixel_values, prepared.tokens
        image = None if pixel_values is None else partial(model.image_features, pixel_values)
        text = None if tokens is None else partial(model.text_features, tokens)
        return Encoded(
            *await asyncio.gather(self._run("image", self._image, image), self._run("text", self._text, text))
        )

    async def probe(self) -> None:
        """Return once both encoders have taken a job, which they do as long as they are alive."""
        await asyncio.gather(self._image.probe(), self._text.probe())

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._image.close()
        self._text.close()

    async def _run(self, encoder: str, workers: Workers, job: Callable[[], Vector] | None) -> Done[Vector] | None:
        if job is None:
            return None
        done = await workers.run(job)
        self._metrics.batch_size.labels(encoder).observe(1)
        return done
