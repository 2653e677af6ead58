"""Where the towers run: one queue and one set of threads for each encoder, joined only at the head."""

from __future__ import annotations

import asyncio
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
        return Encoded(*await asyncio.gather(self._encode_image(model, prepared), self._encode_text(model, prepared)))

    async def probe(self) -> None:
        """Return once both encoders have taken a job, which they do as long as they are alive."""
        await asyncio.gather(self._image.probe(), self._text.probe())

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._image.close()
        self._text.close()

    async def _encode_image(self, model: Model, prepared: Prepared) -> Done[Vector] | None:
        pixel_values = prepared.pixel_values
        if pixel_values is None:
            return None
        done = await self._image.run(lambda: model.image_features(pixel_values))
        self._metrics.batch_size.labels("image").observe(1)
        return done

    async def _encode_text(self, model: Model, prepared: Prepared) -> Done[Vector] | None:
        tokens = prepared.tokens
        if tokens is None:
            return None
        done = await self._text.run(lambda: model.text_features(tokens))
        self._metrics.batch_size.labels("text").observe(1)
        return done
