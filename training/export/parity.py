"""Do the exported graphs answer as the merged PyTorch model does? Asked before anything is published."""

from __future__ import annotations

import torch
from torch import Tensor

from model_store import Pattern
from training.data.examples import Example
from training.data.golden import pattern_items
from training.data.splits import Split
from training.export.onnx_model import OnnxModel
from training.learning.runs import TrainedTask

CHECKED_ITEMS = 32  # per presence pattern


class Reference:
    """The merged PyTorch model, run as plain transformers code: both towers whole, an absent input as any other."""

    def __init__(self, trained: TrainedTask) -> None:
        self._backbone, self._head = trained.model.backbone.eval(), trained.model.head
        self.preprocessor = trained.preprocessor

    @torch.no_grad()
    def logits(self, items: list[Example]) -> Tensor:
        """(B, C)"""
        pixels = torch.stack([self.preprocessor.image(item.image) for item in items])
        ids = self.preprocessor.texts([item.text for item in items]).input_ids
        image = self._backbone.get_image_features(pixel_values=pixels).pooler_output
        text = self._backbone.get_text_features(input_ids=ids).pooler_output
        return self._head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]


def compare(onnx_model: OnnxModel, reference: Reference, examples: Split) -> dict[Pattern, float]:
    """Largest absolute difference of a logit between the two, per presence pattern."""
    errors = {}
    for pattern in Pattern:
        items = pattern_items(examples, pattern)[:CHECKED_ITEMS]
        ours = torch.stack([onnx_model.logits(item) for item in items])
        errors[pattern] = float((ours - reference.logits(items)).abs().max())
    return errors
