"""From features to an answer: logits, calibrated scores, selection and ranking; or a unit vector for retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from model_store import Calibration, Manifest, Pattern, Problem
from service.api.answers import LabelScore
from service.api.item import pattern_of

Vector = NDArray[np.float32]
_LEAST_NORM = np.float32(1e-12)  # as of PyTorch's `normalize`


class Features(NamedTuple):
    """One item's features (P,) by modality; None for an absent one."""

    image: Vector | None
    text: Vector | None

    @property
    def pattern(self) -> Pattern:
        """The modalities that the item has."""
        return pattern_of(self.image is not None, self.text is not None)


class Contributions(NamedTuple):
    """The summands of the logits, (C,) each. A modality's part is 0 where the modality is absent."""

    base: Vector
    image: Vector
    text: Vector


@dataclass(frozen=True)
class Head:
    """`logits = W_image f_image + W_text f_text + b`, with W and b of the item's presence pattern.

    The logits of a retrieval task (`is_unit`) are scaled to length 1.

    Shapes:
        weights: (C, 2P), image columns first; biases: (C,); absent_image, absent_text: (P,).
    """

    weights: Mapping[Pattern, Vector]
    biases: Mapping[Pattern, Vector]
    absent_image: Vector
    absent_text: Vector
    is_unit: bool = False

    def logits(self, features: Features) -> Vector:
        """(C,); an absent modality's features are a constant of the task."""
        image = self.absent_image if features.image is None else features.image
        text = self.absent_text if features.text is None else features.text
        weight, bias = self.weights[features.pattern], self.biases[features.pattern]
        logits: Vector = weight[:, : len(image)] @ image + weight[:, len(image) :] @ text + bias
        return logits / np.maximum(np.linalg.norm(logits), _LEAST_NORM) if self.is_unit else logits

    def contributions(self, features: Features) -> Contributions:
        """`b + W_image a_image + W_text a_text`, `W_image (f_image - a_image)` and `W_text (f_text - a_text)`.

        `a` are the features of an absent modality. A modality's part is the change that its presence makes, which is
        its Shapley value because the head is linear.
        """
        weight, size = self.weights[features.pattern], len(self.absent_image)
        image_part = text_part = np.zeros(len(weight), np.float32)
        if features.image is not None:
            image_part = weight[:, :size] @ (features.image - self.absent_image)
        if features.text is not None:
            text_part = weight[:, size:] @ (features.text - self.absent_text)
        return Contributions(self._bases[features.pattern], image_part, text_part)

    @cached_property
    def _bases(self) -> dict[Pattern, Vector]:
        absent = np.concatenate([self.absent_image, self.absent_text])
        return {pattern: weight @ absent + self.biases[pattern] for pattern, weight in self.weights.items()}


class Decision(NamedTuple):
    """A task's result for one item, label by label in the manifest's order: both (C,)."""

    scores: NDArray[np.float64]
    selected: NDArray[np.bool_]

    def ranked(self, labels: Sequence[str], top_k: int) -> list[LabelScore]:
        """The labels with the highest scores, highest first."""
        return [
            LabelScore(label=labels[index], score=float(self.scores[index]), selected=bool(self.selected[index]))
            for index in np.argsort(-self.scores, kind="stable")[:top_k]
        ]


def scores(logits: Vector, problem: Problem, calibration: Calibration) -> NDArray[np.float64]:
    """Softmax or sigmoid of `logits / temperature`, each in 0..1."""
    scaled = logits.astype(np.float64) / calibration.temperature
    if problem is Problem.MULTI_LABEL:
        positive = np.exp(-np.logaddexp(0.0, -scaled))  # 1 / (1 + exp(-x)) that cannot overflow
        return np.asarray(positive)
    powers = np.exp(scaled - scaled.max())
    return np.asarray(powers / powers.sum())


def selected(scores: NDArray[np.float64], calibration: Calibration) -> NDArray[np.bool_]:
    """(C,): in a single-label task the best label, in a multi-label task every label that reaches its threshold."""
    if calibration.thresholds is None:
        return np.asarray(np.arange(len(scores)) == scores.argmax())
    return np.asarray(scores >= np.array(calibration.thresholds))


def read_head(manifest: Manifest, head: bytes, absent_features: bytes) -> Head:
    """The head from its safetensors. Raises ValueError or KeyError when a tensor is missing or misshapen."""
    classes, size = manifest.head_size, manifest.backbone.feature_size
    tensors, absent = load(head), load(absent_features)
    return Head(
        weights={pattern: _tensor(tensors, f"{pattern}.weight", (classes, 2 * size)) for pattern in Pattern},
        biases={pattern: _tensor(tensors, f"{pattern}.bias", (classes,)) for pattern in Pattern},
        absent_image=_tensor(absent, "image", (size,)),
        absent_text=_tensor(absent, "text", (size,)),
        is_unit=manifest.problem is Problem.RETRIEVAL,
    )


def _tensor(tensors: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> Vector:
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, expected float32 {shape}")
    return np.asarray(tensor, np.float32)
