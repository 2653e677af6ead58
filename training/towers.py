"""The merged towers, each split into a trunk that tasks share and a tail of their own (DESIGN: the four laws).

Nothing of transformers' model code is copied: the modules here call the layers of the merged model in order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPModel


class ImageTrunk(nn.Module):
    """pixel_values (B, 3, S, S) -> image_hidden (B, N, Dv): embeddings and the layers below the first adapted one."""

    def __init__(self, clip: CLIPModel, split: int) -> None:
        super().__init__()
        self.embeddings = clip.vision_model.embeddings
        self.norm = clip.vision_model.pre_layrnorm
        self.layers = clip.vision_model.encoder.layers[:split]

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.norm(self.embeddings(pixel_values))
        for layer in self.layers:
            hidden = layer(hidden, None)
        return hidden  # type: ignore[no-any-return]


class ImageTail(nn.Module):
    """image_hidden (B, N, Dv) -> image_features (B, P): the adapted layers, class token, projection."""

    def __init__(self, clip: CLIPModel, split: int) -> None:
        super().__init__()
        self.layers = clip.vision_model.encoder.layers[split:]
        self.norm = clip.vision_model.post_layernorm
        self.projection = clip.visual_projection

    def forward(self, image_hidden: Tensor) -> Tensor:
        for layer in self.layers:
            image_hidden = layer(image_hidden, None)
        return self.projection(self.norm(image_hidden[:, 0]))  # type: ignore[no-any-return]


def causal_mask(hidden: Tensor) -> Tensor:
    """Additive mask (1, 1, L, L): a token sees itself and those before it."""
    length = hidden.shape[1]
    positions = torch.arange(length, device=hidden.device)
    hides = positions.unsqueeze(0) > positions.unsqueeze(1)  # (L, L)
    return hidden.new_zeros(()).masked_fill(hides, torch.finfo(hidden.dtype).min)[None, None]


class TextTrunk(nn.Module):
    """input_ids (B, L) -> text_hidden (B, L, Dt)."""

    def __init__(self, clip: CLIPModel, split: int) -> None:
        super().__init__()
        self.embeddings = clip.text_model.embeddings
        self.layers = clip.text_model.encoder.layers[:split]

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.embeddings(input_ids=input_ids)
        mask = causal_mask(hidden)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden  # type: ignore[no-any-return]


class TextTail(nn.Module):
    """text_hidden (B, L, Dt), last_token (B,) -> text_features (B, P), pooled at the end token."""

    def __init__(self, clip: CLIPModel, split: int) -> None:
        super().__init__()
        self.layers = clip.text_model.encoder.layers[split:]
        self.norm = clip.text_model.final_layer_norm
        self.projection = clip.text_projection

    def forward(self, text_hidden: Tensor, last_token: Tensor) -> Tensor:
        mask = causal_mask(text_hidden)
        for layer in self.layers:
            text_hidden = layer(text_hidden, mask)
        pooled = text_hidden[torch.arange(text_hidden.shape[0]), last_token]
        return self.projection(self.norm(pooled))  # type: ignore[no-any-return]
