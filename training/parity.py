"""Do the exported graphs answer as the merged PyTorch model does? Asked before anything is published."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_store import Pattern
from training.data import Split
from training.golden import pattern_items
from training.graphs import GraphFiles
from training.items import Item
from training.preprocessing import Preprocessor
from training.runs import TrainedTask

CHECKED_ITEMS = 32  # per presence pattern


class Reference:
    """The merged PyTorch model, run as plain transformers code: both towers whole, an absent input as any other."""

    def __init__(self, trained: TrainedTask) -> None:
        self._backbone, self._head = trained.model.backbone.eval(), trained.model.head
        self.preprocessor = trained.preprocessor

    @torch.no_grad()
    def logits(self, items: list[Item]) -> Tensor:
        """(B, C)"""
        pixels = torch.stack([self.preprocessor.image(item.image) for item in items])
        ids = self.preprocessor.texts([item.text for item in items]).input_ids
        image = self._backbone.get_image_features(pixel_values=pixels).pooler_output
        text = self._backbone.get_text_features(input_ids=ids).pooler_output
        return self._head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]


class OnnxModel:
    """The exported graphs, run as the service will: one item, its own text length, absent towers skipped."""

    def __init__(self, files: GraphFiles, absent: dict[str, Tensor], head: torch.nn.Linear) -> None:
        self._sessions = {
            name: ort.InferenceSession(data, providers=["CPUExecutionProvider"])
            for name, data in files.by_name().items()
        }
        self._absent = {name: value.numpy() for name, value in absent.items()}
        self._weight, self._bias = head.weight.detach().numpy(), head.bias.detach().numpy()

    def logits(self, item: Item, preprocessor: Preprocessor) -> NDArray[np.float32]:
        """(C,)"""
        image, text = self._absent["image"], self._absent["text"]
        if item.image is not None:
            hidden = self._run("image_trunk", pixel_values=preprocessor.image(item.image)[None].numpy())
            image = self._run("image_tail", image_hidden=hidden)[0]
        if item.text is not None:
            tokens = preprocessor.texts([item.text])
            hidden = self._run("text_trunk", input_ids=tokens.input_ids.numpy())
            text = self._run("text_tail", text_hidden=hidden, last_token=tokens.last_token.numpy())[0]
        return self._weight @ np.concatenate([image, text]) + self._bias  # type: ignore[no-any-return]

    def _run(self, graph: str, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        return self._sessions[graph].run(None, inputs)[0]  # type: ignore[no-any-return]


def compare(onnx_model: OnnxModel, reference: Reference, examples: Split) -> dict[Pattern, float]:
    """Largest absolute difference of a logit between the two, per presence pattern."""
    errors = {}
    for pattern in Pattern:
        items = pattern_items(examples, pattern)[:CHECKED_ITEMS]
        ours = np.stack([onnx_model.logits(item, reference.preprocessor) for item in items])
        errors[pattern] = float(np.abs(ours - reference.logits(items).numpy()).max())
    return errors
