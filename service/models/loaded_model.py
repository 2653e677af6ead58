"""One loaded version of a task: everything that turns an item into logits."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import RunOptions

from model_store import Manifest, Precision
from model_store.items.picture_error import PictureError, PictureProblem
from model_store.items.pictures import pixel_values
from service.api.item import Item
from service.errors import Code, ServiceError
from service.models.graphs import Graph
from service.models.head import Head, Vector
from service.models.memory_budget import MemoryBudget
from service.models.tokenizer import TextTokenizer, Tokens

_PICTURE_CODES = {
    PictureProblem.FORMAT: Code.IMAGE_FORMAT,
    PictureProblem.PIXELS: Code.IMAGE_TOO_MANY_PIXELS,
    PictureProblem.UNDECODABLE: Code.IMAGE_UNDECODABLE,
    PictureProblem.MEMORY: Code.IMAGE_TOO_MANY_PIXELS,
}


@dataclass(frozen=True)
class Prepared:
    """An item as its towers take it, and what making it so cost.

    Shapes:
        pixel_values: (1, 3, H, W)
    """

    pixel_values: NDArray[np.float32] | None
    tokens: Tokens | None
    started: float  # by time.perf_counter()
    decode_seconds: float
    tokenize_seconds: float


@dataclass(frozen=True)
class Tower:
    """One modality's encoder: a trunk that tasks share and a tail of the task's own."""

    trunk: Graph
    tail: Graph

    def features(
        self, trunk_input: NDArray[np.generic], *tail_inputs: NDArray[np.generic], options: RunOptions | None = None
    ) -> NDArray[np.float32]:
        """(B, P); `tail_inputs` is `last_token` for a text and nothing for an image."""
        return self.tail.run(self.trunk.run_on_device(trunk_input, options=options), *tail_inputs, options=options)


@dataclass(frozen=True)
class Model:
    """A version of a task, ready to answer; immutable, so a request that holds one never sees two versions."""

    manifest: Manifest
    precision: Precision
    image_tower: Tower
    text_tower: Tower
    tokenizer: TextTokenizer
    head: Head
    max_image_pixels: int
    decoding: MemoryBudget

    @property
    def sharing(self) -> object:
        """Equal for models that prepare an item alike and run it through the same trunks."""
        return self.image_tower.trunk, self.text_tower.trunk, self.manifest.image, self.manifest.text

    def prepare(self, item: Item) -> Prepared:
        """Decode and tokenize; blocking. Raises ServiceError when the picture cannot be used."""
        start = time.perf_counter()
        pixels = None
        if item.image is not None:
            pixels = self._pixel_values(item.image)
        decoded = time.perf_counter()
        tokens = None if item.text is None else self.tokenizer.tokenize(item.text)
        tokenized = time.perf_counter()
        return Prepared(
            pixel_values=pixels,
            tokens=tokens,
            started=start,
            decode_seconds=0.0 if pixels is None else decoded - start,
            tokenize_seconds=0.0 if tokens is None else tokenized - decoded,
        )

    def golden_logits(self, item: Item, options: RunOptions) -> Vector:
        """(C,) of one item, straight through its towers; blocking. Raises what `prepare` and `logits` do."""
        prepared = self.prepare(item)
        image = text = None
        if prepared.pixel_values is not None:
            image = self.image_tower.features(prepared.pixel_values, options=options)[0]
        if (tokens := prepared.tokens) is not None:
            text = self.text_tower.features(tokens.input_ids, tokens.last_token, options=options)[0]
        return self.logits(image, text)

    def _pixel_values(self, data: bytes) -> NDArray[np.float32]:
        with ExitStack() as room:

            def make_room(wanted_bytes: int) -> None:
                room.enter_context(self.decoding.room_for(wanted_bytes))

            try:
                return pixel_values(data, self.manifest.image, self.max_image_pixels, make_room)[None]
            except PictureError as error:
                raise ServiceError(_PICTURE_CODES[error.problem], str(error)) from error

    def logits(self, image_features: Vector | None, text_features: Vector | None) -> Vector:
        """(C,). Raises ServiceError `model_nonfinite` rather than give NaN or infinity."""
        logits = self.head.logits(image_features, text_features)
        if not np.isfinite(logits).all():
            raise ServiceError(
                Code.MODEL_NONFINITE,
                "The model's answer to this item is not finite; change the item, or ask for another version.",
            )
        return logits
