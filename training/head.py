"""The linear head over both towers' features: one for all presence patterns, or one for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model_store import Pattern

PATTERNS = tuple(Pattern)  # the order of the per-pattern weights


class Head(nn.Module):
    """`logits = W [f_image, f_text] + b`, with W and b of the item's presence pattern.

    Shapes:
        weight: (H, C, 2P) and bias: (H, C), with H = 1 for a shared head and 3 for a head per pattern.
    """

    def __init__(self, feature_size: int, classes: int, per_pattern: bool) -> None:
        super().__init__()
        heads = len(PATTERNS) if per_pattern else 1
        self.weight = nn.Parameter((torch.randn(classes, 2 * feature_size) * 0.02).repeat(heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(heads, classes))

    def of(self, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """W (C, 2P) and b (C,) of a pattern."""
        number = PATTERNS.index(pattern) if len(self.weight) > 1 else 0
        return self.weight[number], self.bias[number]

    def forward(self, image: Tensor, text: Tensor, pattern: Pattern) -> Tensor:
        """Logits (B, C) of features (B, P) and (B, P), all of one pattern."""
        return nn.functional.linear(torch.cat([image, text], dim=-1), *self.of(pattern))
