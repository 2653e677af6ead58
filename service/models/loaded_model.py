"""One loaded version of a task: preparation, towers and head."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import RunOptions

from model_store import Manifest, Precision
from model_store.items.pictures import PictureError, PictureProblem, pixel_values
from service.api.answers import Modalities, Modality
from service.api.item import Item, pattern_of
from service.errors import Code, ServiceError
from service.models.graphs import Graph
from service.models.head import Decision, Head, Vector, decide
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
    """An item as its towers take it, and the time that preparing it took.

    Shapes:
        pixel_values: (1, 3, H, W)
    """

    pixel_values: NDArray[np.float32] | None
    tokens: Tokens | None
    started: float  # by time.perf_counter()
    decode_seconds: float
    tokenize_seconds: float

    @property
    def modalities(self) -> Modalities:
        """How each modality is used, for the answer."""
        text: Modality = "absent"
        if self.tokens is not None:
            text = "truncated" if self.tokens.truncated else "used"
        return Modalities(image="absent" if self.pixel_values is None else "used", text=text)


@dataclass(frozen=True)
class Tower:
    """One modality's encoder: a trunk that tasks share, and the task's own tail."""

    trunk: Graph
    tail: Graph

    def features(
        self, trunk_input: NDArray[np.generic], *tail_inputs: NDArray[np.generic], options: RunOptions | None = None
    ) -> NDArray[np.float32]:
        """(B, P); `tail_inputs` is `last_token` for a text and nothing for an image."""
        return self.tail.run(self.trunk.run_on_device(trunk_input, options=options), *tail_inputs, options=options)


@dataclass(frozen=True)
class Model:
    """A version of a task, ready to answer. It is immutable, so one request never mixes two versions."""

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
        """Equal for models that prepare an item in the same way and run it through the same trunks."""
        return self.image_tower.trunk, self.text_tower.trunk, self.manifest.image, self.manifest.text

    def prepare(self, item: Item) -> Prepared:
        """Decode and tokenize; blocking. Raises ServiceError when the picture cannot be used."""
        start = time.perf_counter()
        pixels = None if item.image is None else self._pixel_values(item.image)
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

    def logits(self, image: Vector | None, text: Vector | None) -> Vector:
        """(C,) from features (P,). Raises ServiceError `model_nonfinite` for NaN or infinity."""
        logits = self.head.logits(image, text)
        if not np.isfinite(logits).all():
            raise ServiceError(
                Code.MODEL_NONFINITE,
                "The model's answer to this item is not finite; change the item, or ask for another version.",
            )
        return logits

    def decide(self, image: Vector | None, text: Vector | None) -> Decision:
        """Scores and selected labels from features (P,). Raises ServiceError `model_nonfinite`."""
        calibration = self.manifest.calibration[pattern_of(image is not None, text is not None)]
        return decide(self.logits(image, text), self.manifest.problem, calibration)

    def golden_logits(self, item: Item, options: RunOptions) -> Vector:
        """(C,) of one item, without queues; blocking. Raises the errors of `prepare` and `logits`."""
        prepared = self.prepare(item)
        image = text = None
        if prepared.pixel_values is not None:
            image = self.image_tower.features(prepared.pixel_values, options=options)[0]
        if (tokens := prepared.tokens) is not None:
            text = self.text_tower.features(tokens.input_ids, tokens.last_token, options=options)[0]
        return self.logits(image, text)

    def _pixel_values(self, data: bytes) -> NDArray[np.float32]:
        with ExitStack() as reserved_memory:

            def reserve(size_in_bytes: int) -> None:
                reserved_memory.enter_context(self.decoding.reserve(size_in_bytes))

            try:
                return pixel_values(data, self.manifest.image, self.max_image_pixels, reserve)[None]
            except PictureError as error:
                raise ServiceError(_PICTURE_CODES[error.problem], str(error)) from error
