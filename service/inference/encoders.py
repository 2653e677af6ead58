"""Where the towers run: one queue and one set of threads for each encoder, joined only at the head."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from model_store import Precision
from service.api.item import Item
from service.inference.batching import Batcher
from service.inference.forward import Admission, TowerInput
from service.inference.trunk_cache import TrunkCache
from service.inference.workers import Done
from service.models.head import Vector
from service.models.loaded_model import Model, Prepared
from service.settings import Settings, usable_cores
from service.telemetry.metrics import Metrics


class Encoded(NamedTuple):
    """Features (P,) in each model of the modalities an item has, with what they cost; None for an absent one."""

    image: Done[list[Vector]] | None
    text: Done[list[Vector]] | None


class Encoders:
    """Runs the towers of one item side by side; an absent modality's tower never runs."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        cache = TrunkCache(settings.cache_bytes, metrics.cache_requests)

        def batcher(encoder: str) -> Batcher:
            return Batcher(
                encoder,
                settings.encoder_workers or usable_cores(),
                settings.encoder_workers or 1,
                settings.queue_size,
                settings.max_batch_tokens,
                cache,
                metrics.batch_size.labels(encoder).observe,
            )

        self._image, self._text = batcher("image"), batcher("text")
        metrics.queue_depth.labels("image").set_function(lambda: self._image.waiting)
        metrics.queue_depth.labels("text").set_function(lambda: self._text.waiting)

    def check(self, models: Sequence[Model], item: Item, deadline: float) -> None:
        """Whether an item that is not prepared yet would be taken now.

        Raises:
            ServiceError: `queue_full` or `deadline_unreachable`.
        """
        if item.image is not None:
            self._image.check(_admission(models, models[0].image_tower.trunk.tokens or 1, deadline))
        if item.text is not None:
            self._text.check(_admission(models, 1, deadline))

    async def encode(self, models: Sequence[Model], prepared: Prepared, deadline: float) -> Encoded:
        """The features of a prepared item in models that share their trunks.

        Raises:
            ServiceError: `queue_full` or `deadline_unreachable`.
        """
        pixels, tokens = prepared.pixel_values, prepared.tokens
        image = text = None
        if pixels is not None:
            trunk, tails = models[0].image_tower.trunk, tuple(model.image_tower.tail for model in models)
            image = TowerInput(trunk, tails, pixels, (), _admission(models, trunk.tokens or 1, deadline))
        if tokens is not None:
            trunk, tails = models[0].text_tower.trunk, tuple(model.text_tower.tail for model in models)
            admission = _admission(models, tokens.input_ids.shape[1], deadline)
            text = TowerInput(trunk, tails, tokens.input_ids, (tokens.last_token,), admission)
        if image is None or text is None:
            return Encoded(await _run(self._image, image), await _run(self._text, text))
        running = [asyncio.ensure_future(self._image.run(image)), asyncio.ensure_future(self._text.run(text))]
        try:
            return Encoded(*await asyncio.gather(*running))
        finally:
            for other in running:  # where one was refused, nobody wants the other
                other.cancel()

    async def probe(self) -> None:
        """Return once both encoders have taken a job, which they do as long as they are alive."""
        await asyncio.gather(self._image.probe(), self._text.probe())

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        self._image.close()
        self._text.close()


def _admission(models: Sequence[Model], tokens: int, deadline: float) -> Admission:
    alone = models[0].precision is Precision.INT8
    return Admission(models[0].manifest.task, tokens, alone, deadline)


async def _run(batcher: Batcher, item: TowerInput | None) -> Done[list[Vector]] | None:
    return None if item is None else await batcher.run(item)
