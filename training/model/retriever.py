"""The trained model of a retrieval task: towers and adapter as of a classifier, and a head that gives a unit vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_store import Problem
from training.config import TaskConfig
from training.model.classifier import MissingModalityClassifier
from training.model.contrastive import ContrastiveObjective
from training.model.towers import Backbone


class UnitHead(nn.Linear):
    """`normalise(W_image f_image + W_text f_text + b)`: features (B, 2P) -> unit vectors (B, D)."""

    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(super().forward(features), dim=-1)


class MissingModalityRetriever(MissingModalityClassifier):
    """A backbone's towers, adapted, and one head for queries and targets.

    The features of an absent modality are zeros, so that it adds nothing. The head starts at the sum of the features.
    """

    head: UnitHead

    def __init__(self, backbone: Backbone, config: TaskConfig) -> None:
        super().__init__(backbone, config, 0)
        train = config.train
        self.contrastive = ContrastiveObjective(train.temperature, train.modality_dropout, train.distillation)

    def _new_head(self, size: int, classes: int) -> nn.Linear:
        head = UnitHead(2 * size, size)
        nn.init.zeros_(head.bias)
        with torch.no_grad():
            head.weight.copy_(sum_of_features(size, 1.0, 1.0))
        return head

    def absent(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros (P,)."""
        return torch.zeros_like(images[-1]), torch.zeros_like(texts[-1])

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
        """The vectors (B, 2, D) of queries and targets, and with labels the loss.

        Args:
            image_row, text_row: (2B,), of the queries and then of their targets.
            labels: (B,), equal for equal targets.
            The rest: as for `MissingModalityClassifier`.
        """
        images, texts = self.features(last_token, pixel_values, image_hidden, input_ids, text_hidden)
        has_image, has_text = image_row < len(images) - 1, text_row < len(texts) - 1  # (2B,)
        image, text = images[image_row] * has_image.unsqueeze(1), texts[text_row] * has_text.unsqueeze(1)
        queries, targets = self.head(torch.cat([image, text], dim=-1)).chunk(2)
        vectors = {"logits": torch.stack([queries, targets], dim=1)}
        if labels is None:
            return vectors
        count = len(queries)
        image, text = image[:count], text[:count]
        image_alone = self.head(torch.cat([image, torch.zeros_like(text)], dim=-1))
        text_alone = self.head(torch.cat([torch.zeros_like(image), text], dim=-1))
        complete = (has_image & has_text)[:count]
        return {"loss": self.contrastive(queries, image_alone, text_alone, complete, targets, labels), **vectors}


def sum_of_features(size: int, image_norm: float, text_norm: float) -> Tensor:
    """The weight (P, 2P) whose output is the sum of both features, each divided by the mean norm of its tower's.

    A factor of both parts changes no unit vector. It is chosen so that the weights are 1 on average, because it decides
    how far a step of the optimizer moves them.
    """
    ratio = (text_norm / image_norm) ** 0.5
    return torch.cat([ratio * torch.eye(size), torch.eye(size) / ratio], dim=1)


def make_model(backbone: Backbone, config: TaskConfig, classes: int) -> MissingModalityClassifier:
    """The untrained model of a configuration."""
    if config.problem is Problem.RETRIEVAL:
        return MissingModalityRetriever(backbone, config)
    return MissingModalityClassifier(backbone, config, classes)
