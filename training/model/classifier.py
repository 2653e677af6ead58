"""The trained model: two towers, an adapter in them, and a linear head over both features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.config import TaskConfig
from training.errors import BackboneError
from training.model.backbone_sizes import first_tail_layers
from training.model.methods import adapt
from training.model.objective import Objective
from training.model.towers import Backbone, ImageTail, ImageTrunk, TextTail, TextTrunk, feature_size, layer_counts


class MissingModalityClassifier(nn.Module):
    """A backbone's towers, adapted, and a head over [image features, text features].

    The features are the unnormalised projections (METHOD: official configurations). A missing image is a white picture,
    a missing text the empty string. The last row of a batch's images and texts is this absent input. The state dict
    holds the trained parameters only: adapter and head.
    """

    def __init__(self, backbone: Backbone, config: TaskConfig, classes: int) -> None:
        super().__init__()
        backbone.requires_grad_(False)
        image_layers, text_layers = backbone.vision_model.encoder.layers, backbone.text_model.encoder.layers
        image_split, text_split = first_tail_layers(config, len(image_layers), len(text_layers))
        adapted_layers = [*image_layers[image_split:]], [*text_layers[text_split:]]
        self.adapter = adapt(config.method, backbone, *adapted_layers, config.mora)
        self.head = self._new_head(feature_size(backbone), classes)
        self.split_at(backbone, image_split, text_split)
        self.backbone = backbone
        self.objective = Objective(config.problem, config.train.modality_dropout, config.train.distillation)

    def _new_head(self, size: int, classes: int) -> nn.Linear:
        head = nn.Linear(2 * size, classes)
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return head

    def split_at(self, backbone: Backbone, image_split: int, text_split: int) -> None:
        """Let the tails begin at these layers. The model's answers stay the same."""
        self.image_split, self.text_split = image_split, text_split
        self.image_trunk = ImageTrunk(backbone, image_split)
        self.image_tail = ImageTail(backbone, image_split)
        self.text_trunk = TextTrunk(backbone, text_split)
        self.text_tail = TextTail(backbone, text_split)

    def split_late(self) -> None:
        """Let the tails begin at the last layer, so that a cache of trunk outputs saves all other layers.

        Only for a model whose layers are not trained. The last layer runs for the pooled token alone, which is cheap.
        """
        image, text = layer_counts(self.backbone)
        self.split_at(self.backbone, max(self.image_split, image - 1), max(self.text_split, text - 1))

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P)."""
        return self.image_tail(self.image_trunk(pixel_values))  # type: ignore[no-any-return]

    def text_features(self, input_ids: Tensor, last_token: Tensor) -> Tensor:
        """input_ids (B, L) and the position of each text's last token (B,) -> (B, P)."""
        return self.text_tail(self.text_trunk(input_ids), last_token)  # type: ignore[no-any-return]

    def features(
        self,
        last_token: Tensor,
        pixel_values: Tensor | None = None,
        image_hidden: Tensor | None = None,
        input_ids: Tensor | None = None,
        text_hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both towers' features (I, P) and (T, P).

        Args:
            last_token: (T,)
            pixel_values: (I, 3, S, S); or image_hidden, the image trunk's output (I, N, Dv).
            input_ids: (T, L); or text_hidden, the text trunk's output (T, L, Dt).
        """
        image_hidden = self.image_trunk(pixel_values) if image_hidden is None else image_hidden
        text_hidden = self.text_trunk(input_ids) if text_hidden is None else text_hidden
        return self.image_tail(image_hidden), self.text_tail(text_hidden, last_token)

    def absent(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """The features (P,) that stand for an absent image and an absent text, from the last rows of a batch's."""
        return images[-1], texts[-1]

    def forward(
        self,
        image_row: Tensor,
        text_row: Tensor,
        last_token: Tensor,
        pixel_values: Tensor | None = None,
        image_hidden: Tensor | None = None,
        input_ids: Tensor | None = None,
        text_hidden: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Logits (B, C), and with labels the loss.

        Args:
            image_row, text_row: (B,), the row of each item's image and text; the last row is the absent input.
            labels: class indices (B,), or 0/1 (B, C) for multi-label.
            last_token and the rest: as for `features`.
        """
        images, texts = self.features(last_token, pixel_values, image_hidden, input_ids, text_hidden)
        has_image, has_text = image_row < len(images) - 1, text_row < len(texts) - 1  # (B,)
        logits = self.head(torch.cat([images[image_row], texts[text_row]], dim=-1))
        if labels is None:
            return {"logits": logits}
        absent_image, absent_text = (row.expand(len(image_row), -1) for row in self.absent(images, texts))
        image_alone = self.head(torch.cat([images[image_row], absent_text], dim=-1))
        text_alone = self.head(torch.cat([absent_image, texts[text_row]], dim=-1))
        loss = self.objective(logits, image_alone, text_alone, has_image & has_text, labels)
        return {"loss": loss, "logits": logits}

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]  # noqa: ANN401
        """The trained parameters; the frozen ones are left out, so that checkpoints and adapters stay small."""
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load the trained parameters. Raises BackboneError unless names and shapes are those of the model."""
        own = self.state_dict()
        if own.keys() != state_dict.keys() or any(own[n].shape != state_dict[n].shape for n in own):
            raise BackboneError("the adapter does not fit this backbone and configuration; use those it was made with")
        for name, value in own.items():
            value.copy_(state_dict[name])
        return nn.modules.module._IncompatibleKeys([], [])

    def trainable_parameters(self) -> int:
        """The number of trained parameters."""
        return sum(value.numel() for value in self.state_dict().values())
