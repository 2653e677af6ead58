"""One plain ONNX model, both towers and the head in one graph, for runtimes that know nothing of the split."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim

from training.export.onnx_graphs import BATCH, to_onnx
from training.model.classifier import MissingModalityClassifier


class _WholeModel(nn.Module):
    """pixel_values (B, 3, S, S), input_ids (B, L), last_token (B,) -> logits (B, C)."""

    def __init__(self, merged: MissingModalityClassifier) -> None:
        super().__init__()
        self.merged = merged

    def forward(self, pixel_values: Tensor, input_ids: Tensor, last_token: Tensor) -> Tensor:
        image = self.merged.image_features(pixel_values)
        text = self.merged.text_features(input_ids, last_token)
        return self.merged.head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]


def export_single_file(merged: MissingModalityClassifier) -> bytes:
    """ONNX bytes of a model whose adapter has been merged. Absent modalities are a white picture and the text ""."""
    vision, text = merged.backbone.config.vision_config, merged.backbone.config.text_config
    inputs = {
        "pixel_values": torch.zeros(2, vision.num_channels, vision.image_size, vision.image_size),
        "input_ids": torch.zeros(2, 5, dtype=torch.int64),
        "last_token": torch.tensor([4, 3]),
    }
    length = Dim("length", min=1, max=text.max_position_embeddings)
    return to_onnx(_WholeModel(merged), inputs, "logits", [{0: BATCH}, {0: BATCH, 1: length}, {0: BATCH}])
