"""The two encoders: a queue and threads for each tower. Only the head joins their features."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from service.api.item import Item
from service.cores import usable_cores
from service.inference.batching import Batcher
from service.inference.forward import Admission, TowerInput
from service.inference.input_queue import InputQueue
from service.inference.trunk_cache import TrunkCache
from service.inference.workers import Done
from service.models.graphs import Graph, has_cuda
from service.models.head import Vector
from service.models.loaded_model import Model
from service.models.preparation import Prepared
from service.settings import Settings
from service.telemetry.metrics import Metrics

_CPU_BATCH_TOKENS = 512
_GPU_BATCH_TOKENS = 16_384
Encoded: TypeAlias = Done[list[Vector]] | None  # features (P,) in each of several models; None: absent modality


class Encoders:
    """Runs the towers of one item in parallel; an absent modality's tower never runs.

    Attributes:
        image, text: the queue of each tower.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        batch_tokens = settings.max_batch_tokens or (_GPU_BATCH_TOKENS if has_cuda() else _CPU_BATCH_TOKENS)
        cache = TrunkCache(settings.cache_bytes, metrics.cache_requests)

        def make(encoder: str) -> Batcher:
            workers = settings.encoder_workers
            queue = InputQueue(settings.queue_size, batch_tokens, workers or usable_cores(), workers or 1)
            observe = metrics.batch_size.labels(encoder).observe
            batcher = Batcher(encoder, queue, cache, observe)
            metrics.queue_depth.labels(encoder).set_function(lambda: batcher.waiting)
            return batcher

        self.image, self.text = make("image"), make("text")

    def check(self, models: Sequence[Model], item: Item, deadline: float) -> None:
        """Raises ServiceError `queue_full` or `deadline_unreachable` if the item would be refused now."""
        if item.image is not None:
            trunk = models[0].image_tower.trunk
            self.image.check(trunk, _admission(models[0], trunk, trunk.tokens or 1, deadline))
        if item.text is not None:
            # The number of its tokens is not known yet.
            trunk = models[0].text_tower.trunk
            self.text.check(trunk, _admission(models[0], trunk, 1, deadline))

    async def encode(self, models: Sequence[Model], prepared: Prepared, deadline: float) -> tuple[Encoded, Encoded]:
        """The image and text features of an item in models that share their trunks. Raises the errors of `check`."""
        pixels, tokens = prepared.pixel_values, prepared.tokens
        image = text = None
        if pixels is not None:
            trunk, tails = models[0].image_tower.trunk, tuple(model.image_tower.tail for model in models)
            image = TowerInput(trunk, tails, pixels, (), _admission(models[0], trunk, trunk.tokens or 1, deadline))
        if tokens is not None:
            trunk, tails = models[0].text_tower.trunk, tuple(model.text_tower.tail for model in models)
            admission = _admission(models[0], trunk, tokens.input_ids.shape[1], deadline)
            text = TowerInput(trunk, tails, tokens.input_ids, (tokens.last_token,), admission)
        if text is None:
            return await self.image.run(image) if image else None, None
        if image is None:
            return None, await self.text.run(text)
        image_run, text_run = asyncio.ensure_future(self.image.run(image)), asyncio.ensure_future(self.text.run(text))
        try:
            return await asyncio.gather(image_run, text_run)
        finally:  # if one tower refuses its input, the features of the other are not needed
            image_run.cancel()
            text_run.cancel()

    def close(self) -> None:
        """Finish running batches and drop waiting inputs."""
        self.image.close()
        self.text.close()


def _admission(model: Model, trunk: Graph, tokens: int, deadline: float) -> Admission:
    return Admission(model.manifest.task, tokens, model.runs_alone(trunk.execution), deadline)
