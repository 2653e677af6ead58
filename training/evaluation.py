"""Metrics of a trained model: under the configured missing table, and for each presence pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torchmetrics.functional import classification as metrics

from model_store import Pattern, Problem
from training.batches import Collator
from training.data import Split
from training.missing import Lacks, Table, natural_table
from training.model import MissingModalityClassifier

Scores = dict[str, float | None]  # None where there was nothing to score


@dataclass(frozen=True)
class SplitFeatures:
    """Both towers' features of every item (N, P). Where a modality is absent, they are its constant."""

    image: Tensor
    text: Tensor
    absent_image: Tensor  # (P,)
    absent_text: Tensor  # (P,)

    def under(self, table: Table) -> Tensor:
        """Concatenated features (N, 2P) with what the table takes away replaced by the constants."""
        lacks = torch.as_tensor(np.asarray(table, dtype=np.int64)).unsqueeze(1)  # (N, 1)
        image = torch.where(lacks == Lacks.IMAGE, self.absent_image, self.image)
        text = torch.where(lacks == Lacks.TEXT, self.absent_text, self.text)
        return torch.cat([image, text], dim=-1)


@torch.no_grad()
def encode(model: MissingModalityClassifier, split: Split, collator: Collator, batch_size: int = 64) -> SplitFeatures:
    """Run each tower once over a split, with a progress bar."""
    model.eval()
    device = next(model.parameters()).device
    image, text = [], []
    for start in track(range(0, len(split.items), batch_size), f"encoding {split.name}"):
        items = split.items[start : start + batch_size]
        batch = collator(items)
        image.append(model.image_features(batch["pixel_values"].to(device)).cpu())
        text.append(model.text_features(batch["input_ids"].to(device)).cpu())
    preprocessor = collator.preprocessor
    absent_image = model.image_features(preprocessor.image(None).unsqueeze(0).to(device))[0].cpu()
    absent_text = model.text_features(preprocessor.texts([None]).to(device))[0].cpu()
    return SplitFeatures(torch.cat(image), torch.cat(text), absent_image, absent_text)


def score(logits: Tensor, targets: Tensor, problem: Problem) -> Scores:
    """Accuracy, macro-F1 and expected calibration error (15 bins); AUROC too for two classes.

    Multi-label: labels are predicted above 0.5, accuracy asks for the exact set, calibration is over every label.
    """
    classes = logits.shape[1]
    if len(logits) == 0:
        return {"items": 0, "accuracy": None, "macro_f1": None, "ece": None}
    if problem is Problem.MULTI_LABEL:
        probabilities, truth = logits.sigmoid(), targets.int()
        found = {
            "accuracy": metrics.multilabel_exact_match(probabilities, truth, classes),
            "macro_f1": metrics.multilabel_f1_score(probabilities, truth, classes, average="macro"),
            "ece": metrics.binary_calibration_error(probabilities.flatten(), truth.flatten(), n_bins=15),
        }
    else:
        probabilities = logits.softmax(dim=-1)
        found = {
            "accuracy": metrics.multiclass_accuracy(probabilities, targets, classes, average="micro"),
            "macro_f1": metrics.multiclass_f1_score(probabilities, targets, classes, average="macro"),
            "ece": metrics.multiclass_calibration_error(probabilities, targets, classes, n_bins=15),
        }
        if classes == 2 and 0 < int(targets.sum()) < len(targets):
            found["auroc"] = metrics.binary_auroc(probabilities[:, 1], targets)
    return {"items": len(logits), **{name: round(float(value), 6) for name, value in found.items()}}


def evaluate(
    model: MissingModalityClassifier, split: Split, table: Table, features: SplitFeatures, collator: Collator
) -> dict[str, Scores]:
    """Scores under the configured table (`overall`), and of each presence pattern on every item that allows it."""
    targets, natural = collator.targets(split.items), natural_table(split)
    weight, bias = model.head.weight.cpu(), model.head.bias.cpu()

    @torch.no_grad()
    def scores(lacks: Table, chosen: np.ndarray) -> Scores:
        logits = torch.nn.functional.linear(features.under(lacks), weight, bias)
        return score(logits[chosen], targets[chosen], model.problem)

    has_image, has_text = natural != Lacks.IMAGE, natural != Lacks.TEXT
    return {
        "overall": scores(table, np.ones(len(natural), dtype=bool)),
        Pattern.BOTH: scores(natural, has_image & has_text),
        Pattern.IMAGE: scores(np.full_like(natural, Lacks.TEXT), has_image),
        Pattern.TEXT: scores(np.full_like(natural, Lacks.IMAGE), has_text),
    }
