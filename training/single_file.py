"""One plain ONNX model, both towers and the head in one graph, for runtimes that know nothing of the split."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim

from model_store import Pattern
from training.graphs import BATCH, to_onnx
from training.model import MissingModalityClassifier


class _WholeModel(nn.Module):
    """pixel_values (B, 3, S, S), input_ids (B, L), last_token (B,), pattern (B,) -> logits (B, C)."""

    def __init__(self, merged: MissingModalityClassifier) -> None:
        super().__init__()
        self.merged = merged
        weights, biases = zip(*(merged.head.of(pattern) for pattern in Pattern), strict=True)
        self.weight, self.bias = torch.stack(weights), torch.stack(biases)  # (3, C, 2P), (3, C)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, last_token: Tensor, pattern: Tensor) -> Tensor:
        image = self.merged.image_features(pixel_values)
        text = self.merged.text_features(input_ids, last_token)
        features = torch.cat([image, text], dim=-1).unsqueeze(-1)  # (B, 2P, 1)
        return (self.weight[pattern] @ features).squeeze(-1) + self.bias[pattern]


def export_single_file(merged: MissingModalityClassifier) -> bytes:
    """ONNX bytes of a model whose adapter has been merged.

    Absent modalities are a white picture and the text ""; `pattern` is 0 for items that have both, 1 for those with an
    image alone, 2 for those with a text alone.
    """
    vision, text = merged.backbone.config.vision_config, merged.backbone.config.text_config
    inputs = {
        "pixel_values": torch.zeros(2, vision.num_channels, vision.image_size, vision.image_size),
        "input_ids": torch.zeros(2, 5, dtype=torch.int64),
        "last_token": torch.tensor([4, 3]),
        "pattern": torch.tensor([0, 1]),
    }
    length = Dim("length", min=1, max=text.max_position_embeddings)
    return to_onnx(_WholeModel(merged), inputs, "logits", [{0: BATCH}, {0: BATCH, 1: length}, {0: BATCH}, {0: BATCH}])
