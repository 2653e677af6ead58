"""One loaded version of a task: preparation, towers and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnxruntime import RunOptions

from model_store import Manifest, Precision, Problem
from service.api.item import Item
from service.errors import Code, ServiceError
from service.models.execution import Execution
from service.models.graphs import Graph
from service.models.head import Contributions, Decision, Features, Head, Vector, scores, selected
from service.models.preparation import Prepared, TextTokenizer, decode, decoding_bytes
from service.models.tail import Tail

TowerName: TypeAlias = Literal["image", "text"]
TOWER_NAMES: tuple[TowerName, ...] = ("image", "text")
_FROM_LOW = [Precision.INT8, Precision.BF16, Precision.FP16, Precision.FP32]


@dataclass(frozen=True)
class Tower:
    """One modality's encoder: a trunk that tasks share, and the task's own tail."""

    trunk: Graph
    tail: Tail

    @property
    def execution(self) -> Execution:
        """What runs it."""
        return self.trunk.execution

    def features(
        self, trunk_input: NDArray[np.generic], *tail_inputs: NDArray[np.generic], options: RunOptions | None = None
    ) -> NDArray[np.float32]:
        """(B, P); `tail_inputs` is `last_token` for a text and nothing for an image."""
        return self.tail.run(self.trunk.run_on_device(trunk_input, options=options), *tail_inputs, options=options)


@dataclass(frozen=True)
class Model:
    """A version of a task, ready to answer. It is immutable, so one request never mixes two versions."""

    manifest: Manifest
    image_tower: Tower
    text_tower: Tower
    tokenizer: TextTokenizer
    head: Head
    max_image_pixels: int
    max_decode_bytes: int

    @property
    def towers(self) -> dict[TowerName, Tower]:
        """The tower of each modality."""
        return {"image": self.image_tower, "text": self.text_tower}

    @property
    def is_retrieval(self) -> bool:
        """Whether the answer is a vector, and not labels."""
        return self.manifest.problem is Problem.RETRIEVAL

    def check_has_labels(self) -> None:
        """Raises ServiceError `no_labels` for a retrieval task."""
        if self.is_retrieval:
            detail = f"{self.manifest.task} is a retrieval task, which has no labels; POST /embed gives its vectors."
            raise ServiceError(Code.NO_LABELS, detail)

    @property
    def precision(self) -> Precision:
        """The lower precision of the two towers."""
        return min((tower.execution.precision for tower in self.towers.values()), key=_FROM_LOW.index)

    @property
    def golden_tolerance(self) -> float:
        """The largest accepted difference of a golden logit."""
        return max(self.manifest.tolerance(tower.execution.precision) for tower in self.towers.values())

    def runs_alone(self, execution: Execution) -> bool:
        """Whether other inputs of a batch would change an answer: int8 graphs may scale by the range of the batch."""
        return execution.precision is Precision.INT8 and not self.manifest.graphs[Precision.INT8].fixed_scales

    @property
    def sharing(self) -> object:
        """Equal for models that prepare an item in the same way and run it through the same trunks."""
        return self.image_tower.trunk, self.text_tower.trunk, self.manifest.image, self.manifest.text

    def decoding_bytes(self, picture: bytes) -> int:
        """The memory that `decode` takes at its peak, from the picture's header; blocking.

        Raises ServiceError for a picture that is unusable or takes more than `max_decode_bytes`.
        """
        size_in_bytes = decoding_bytes(picture, self.manifest.image, self.max_image_pixels)
        if size_in_bytes > self.max_decode_bytes:
            detail = f"Decoding an image may take {self.max_decode_bytes} bytes; send fewer pixels, or a baseline JPEG."
            raise ServiceError(Code.IMAGE_TOO_MANY_PIXELS, detail)
        return size_in_bytes

    def decode(self, picture: bytes) -> NDArray[np.float32]:
        """`pixel_values` (1, 3, H, W) of a picture; blocking. Raises ServiceError for an unusable picture."""
        return decode(picture, self.manifest.image, self.max_image_pixels)

    def prepare(self, item: Item) -> Prepared:
        """Decode and tokenize, without waiting for memory; blocking. Raises ServiceError for an unusable picture."""
        pixels = None
        if item.image is not None:
            self.decoding_bytes(item.image)
            pixels = self.decode(item.image)
        return Prepared(pixels, None if item.text is None else self.tokenizer.tokenize(item.text))

    def features(self, prepared: Prepared, options: RunOptions) -> Features:
        """(P,) of each present modality, without queues; blocking."""
        image = text = None
        if prepared.pixel_values is not None:
            image = self.image_tower.features(prepared.pixel_values, options=options)[0]
        if (tokens := prepared.tokens) is not None:
            text = self.text_tower.features(tokens.input_ids, tokens.last_token, options=options)[0]
        return Features(image, text)

    def logits(self, features: Features) -> Vector:
        """(C,), or the vector (D,) of a retrieval task. Raises ServiceError `model_nonfinite` for NaN or infinity."""
        with _quiet():
            logits = self.head.logits(features)
        _check_finite(logits)
        return logits

    def decide(self, features: Features) -> Decision:
        """Scores and selected labels. Raises ServiceError `model_nonfinite` or `no_labels`."""
        self.check_has_labels()
        calibration = self.manifest.calibration[features.pattern]
        logits = self.logits(features)
        with _quiet():
            by_label = scores(logits, self.manifest.problem, calibration)
        _check_finite(by_label)
        return Decision(by_label, selected(by_label, calibration))

    def check_finite(self, features: Features) -> None:
        """Raises ServiceError `model_nonfinite` unless the answer is finite."""
        if self.is_retrieval:
            self.logits(features)
        else:
            self.decide(features)

    def contributions(self, features: Features) -> Contributions:
        """The summands of the logits. Raises ServiceError `model_nonfinite`, also if only a summand is infinite."""
        with _quiet():
            contributions = self.head.contributions(features)
        for part in contributions:
            _check_finite(part)
        return contributions

    def golden_logits(self, item: Item, options: RunOptions) -> Vector:
        """(C,) of one item, without queues; blocking. Raises the errors of `prepare` and `logits`."""
        return self.logits(self.features(self.prepare(item), options))


def _quiet() -> np.errstate:
    """No warnings of overflows in the block: its result is checked."""
    return np.errstate(over="ignore", invalid="ignore")


def _check_finite(values: NDArray[np.floating]) -> None:
    if not np.isfinite(values).all():
        detail = "The model's answer to this item is not finite; change the item, or ask for another version."
        raise ServiceError(Code.MODEL_NONFINITE, detail)
