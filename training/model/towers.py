"""The two towers of a backbone, each split into a trunk that tasks share and a tail for each task (docs: four laws).

The modules call the layers of transformers' model in order. CLIP has a norm before its layers, pools one token and
projects it. Its text tower is causal: a token sees earlier tokens only, so padding after the end has no effect.
SigLIP's image tower pools by attention over all tokens, and its text tower is not causal.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import CLIPModel, SiglipModel

Backbone: TypeAlias = CLIPModel | SiglipModel


def feature_size(backbone: Backbone) -> int:
    """P: the size of both towers' features."""
    if isinstance(backbone, CLIPModel):
        return int(backbone.config.projection_dim)
    return int(backbone.config.vision_config.hidden_size)


def layer_counts(backbone: Backbone) -> tuple[int, int]:
    """The number of layers of the image and of the text tower."""
    return len(backbone.vision_model.encoder.layers), len(backbone.text_model.encoder.layers)


class ImageTrunk(nn.Module):
    """pixel_values (B, 3, S, S) -> image_hidden (B, N, Dv): embeddings and the layers below the first adapted one."""

    def __init__(self, backbone: Backbone, split: int) -> None:
        super().__init__()
        vision = backbone.vision_model
        self.embeddings = vision.embeddings
        self.norm = vision.pre_layrnorm if isinstance(backbone, CLIPModel) else nn.Identity()
        self.layers = vision.encoder.layers[:split]

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = self.norm(self.embeddings(pixel_values))
        for layer in self.layers:
            hidden = layer(hidden, None)
        return hidden  # type: ignore[no-any-return]


class ImageTail(nn.Module):
    """image_hidden (B, N, Dv) -> image_features (B, P): the adapted layers, pooling, projection."""

    def __init__(self, backbone: Backbone, split: int) -> None:
        super().__init__()
        vision = backbone.vision_model
        self.layers = vision.encoder.layers[split:]
        self.norm = vision.post_layernorm
        clip = isinstance(backbone, CLIPModel)
        self.attention_pooling = None if clip else vision.head
        self.projection = backbone.visual_projection if clip else nn.Identity()

    def forward(self, image_hidden: Tensor) -> Tensor:
        if self.attention_pooling is not None:
            for layer in self.layers:
                image_hidden = layer(image_hidden, None)
            return self.attention_pooling(self.norm(image_hidden))  # type: ignore[no-any-return]
        first = torch.zeros(image_hidden.shape[0], dtype=torch.int64, device=image_hidden.device)
        pooled = _pooled_token(self.layers, image_hidden, first, None)
        return self.projection(self.norm(pooled))  # type: ignore[no-any-return]


class TextTrunk(nn.Module):
    """input_ids (B, L) -> text_hidden (B, L, Dt)."""

    def __init__(self, backbone: Backbone, split: int) -> None:
        super().__init__()
        self.embeddings = backbone.text_model.embeddings
        self.layers = backbone.text_model.encoder.layers[:split]
        self.causal = isinstance(backbone, CLIPModel)

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.embeddings(input_ids=input_ids)
        mask = causal_mask(hidden) if self.causal else None
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden  # type: ignore[no-any-return]


class TextTail(nn.Module):
    """text_hidden (B, L, Dt), last_token (B,) -> text_features (B, P), pooled at the last token."""

    def __init__(self, backbone: Backbone, split: int) -> None:
        super().__init__()
        self.layers = backbone.text_model.encoder.layers[split:]
        self.norm = backbone.text_model.final_layer_norm
        self.causal = isinstance(backbone, CLIPModel)
        self.projection = backbone.text_projection if self.causal else backbone.text_model.head

    def forward(self, text_hidden: Tensor, last_token: Tensor) -> Tensor:
        mask = causal_mask(text_hidden) if self.causal else None
        pooled = _pooled_token(self.layers, text_hidden, last_token, mask)
        return self.projection(self.norm(pooled))  # type: ignore[no-any-return]


def causal_mask(hidden: Tensor) -> Tensor:
    """Additive mask (1, 1, L, L): a token sees itself and earlier tokens."""
    length = hidden.shape[1]
    positions = torch.arange(length, device=hidden.device)
    hides = positions.unsqueeze(0) > positions.unsqueeze(1)  # (L, L)
    return hidden.new_zeros(()).masked_fill(hides, torch.finfo(hidden.dtype).min)[None, None]


def _pooled_token(layers: nn.ModuleList, hidden: Tensor, pooled: Tensor, mask: Tensor | None) -> Tensor:
    """One token of each sequence (B, L, D) after the layers: (B, D). The last layer runs for it alone (law 4)."""
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    if len(layers) == 0:
        return hidden[rows, pooled]
    for layer in layers[:-1]:
        hidden = layer(hidden, mask)
    last: Any = layers[-1]
    attention, normed = last.self_attn, last.layer_norm1(hidden)
    query, key, value = (
        tokens.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)  # (B, H, 1 or L, D / H)
        for tokens in (
            attention.q_proj(normed[rows, pooled].unsqueeze(1)),
            attention.k_proj(normed),
            attention.v_proj(normed),
        )
    )
    token_mask = None if mask is None else mask[:, :, pooled].transpose(0, 2)  # (B, 1, 1, L), for the pooled token
    attended = scaled_dot_product_attention(query, key, value, attn_mask=token_mask, scale=attention.scale)
    token = hidden[rows, pooled] + attention.out_proj(attended.transpose(1, 2).flatten(2)).squeeze(1)
    return token + last.mlp(last.layer_norm2(token))  # type: ignore[no-any-return]
