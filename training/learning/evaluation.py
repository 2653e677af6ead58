"""Metrics of a trained model: under the configured missing table, and for each presence pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torchmetrics.functional import classification as metrics

from model_store import Calibration, Pattern, Problem
from training.data.examples import Example
from training.data.missing import PATTERN_OF, Lacks, Table, natural_table
from training.data.splits import Split, TaskData
from training.errors import DivergedError, first_few
from training.learning.batches import Collator
from training.learning.calibration import BINS
from training.model.classifier import MissingModalityClassifier

Scores = dict[str, float | None]  # None: no items, or undefined for them
Calibrations = Mapping[Pattern, Calibration]
_LACKS = {pattern: lacks for lacks, pattern in PATTERN_OF.items()}


@dataclass(frozen=True)
class EncodedSplit:
    """Both towers' features of every item, from which a head answers under any missing table.

    Shapes:
        image, text: (N, P), of the absent input where an item lacks it; absent_image, absent_text: (P,).
        targets: (N,) class indices, or (N, C) of 0 and 1.
    """

    image: Tensor
    text: Tensor
    absent_image: Tensor
    absent_text: Tensor
    targets: Tensor
    natural: Table

    @torch.no_grad()
    def logits(self, head: nn.Linear, table: Table) -> Tensor:
        """(N, C) without the modalities that the missing table takes away."""
        lacks = torch.as_tensor(np.asarray(table, dtype=np.int64)).unsqueeze(1)  # (N, 1)
        image = torch.where(lacks == Lacks.IMAGE, self.absent_image, self.image)
        text = torch.where(lacks == Lacks.TEXT, self.absent_text, self.text)
        return head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]

    def under(self, pattern: Pattern) -> tuple[Table, NDArray[np.bool_]]:
        """The missing table that gives every item this pattern, and a mask (N,) of the items that allow it."""
        has_image, has_text = self.natural != Lacks.IMAGE, self.natural != Lacks.TEXT
        chosen = {Pattern.BOTH: has_image & has_text, Pattern.IMAGE: has_image, Pattern.TEXT: has_text}[pattern]
        return np.full_like(self.natural, _LACKS[pattern]), chosen

    def of_pattern(self, head: nn.Linear, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Logits (n, C) and targets of the items that allow the pattern, without their other modality."""
        table, chosen = self.under(pattern)
        return self.logits(head, table)[chosen], self.targets[chosen]

    def by_pattern(self, head: nn.Linear, hidden: Table) -> dict[Pattern, tuple[Tensor, Tensor]]:
        """`of_pattern` for each pattern, of the items that allow it under the missing table `hidden`."""
        visible = replace(self, natural=hidden)
        return {pattern: visible.of_pattern(head, pattern) for pattern in Pattern}


def encode_splits(model: MissingModalityClassifier, data: TaskData, collator: Collator) -> dict[str, EncodedSplit]:
    """Encode the splits that are scored: validation and test."""
    return {split.name: encode(model, split, collator) for split in (data.validation, data.test)}


@torch.no_grad()
def encode(model: MissingModalityClassifier, split: Split, collator: Collator, batch_size: int = 64) -> EncodedSplit:
    """Run each tower once over a split, with a progress bar. Raises DivergedError if features are not finite."""
    model.eval()
    device = next(model.parameters()).device
    image, text, targets = [], [], []
    for start in track(range(0, len(split.items), batch_size), f"encoding {split.name}"):
        items = split.items[start : start + batch_size]
        batch = {name: value.to(device) for name, value in collator(items).items()}
        image_row, text_row = batch.pop("image_row"), batch.pop("text_row")
        targets.append(batch.pop("labels").cpu())
        images, texts = model.features(**batch)
        image.append(images[image_row].cpu())
        text.append(texts[text_row].cpu())
        for modality, features in (("image", image[-1]), ("text", text[-1])):
            _check_finite(modality, features, items, split)
        absent = images[-1].cpu(), texts[-1].cpu()
    return EncodedSplit(torch.cat(image), torch.cat(text), *absent, torch.cat(targets), natural_table(split))


def _check_finite(modality: str, features: Tensor, items: Sequence[Example], split: Split) -> None:
    rows = [str(item.row) for item, finite in zip(items, features.isfinite().all(dim=-1), strict=True) if not finite]
    if rows:
        raise DivergedError(
            f"{split.source}: the {modality} features of row {first_few(rows)} are not finite; check these rows "
            "and the backbone, or train again with a lower train.learning_rate"
        )


def score(logits: Tensor, targets: Tensor, problem: Problem) -> Scores:
    """Accuracy, macro-F1 and expected calibration error; for two classes also AUROC. None where undefined.

    Multi-label: labels above 0.5 are predicted, accuracy is the share of exact sets, calibration is over every label.
    """
    classes = logits.shape[1]
    names = ["accuracy", "macro_f1", "ece"]
    if problem is Problem.SINGLE_LABEL and classes == 2:
        names.append("auroc")
    if len(logits) == 0 or not bool(logits.isfinite().all()):
        return {"items": len(logits), **dict.fromkeys(names)}
    if problem is Problem.MULTI_LABEL:
        probabilities, truth = logits.sigmoid(), targets.int()
        values = {
            "accuracy": metrics.multilabel_exact_match(probabilities, truth, classes),
            "macro_f1": metrics.multilabel_f1_score(probabilities, truth, classes, average="macro"),
            "ece": metrics.binary_calibration_error(probabilities.flatten(), truth.flatten(), n_bins=BINS),
        }
    else:
        probabilities = logits.softmax(dim=-1)
        values = {
            "accuracy": metrics.multiclass_accuracy(probabilities, targets, classes, average="micro"),
            "macro_f1": metrics.multiclass_f1_score(probabilities, targets, classes, average="macro"),
            "ece": metrics.multiclass_calibration_error(probabilities, targets, classes, n_bins=BINS),
        }
        if classes == 2 and 0 < int(targets.sum()) < len(targets):
            values["auroc"] = metrics.binary_auroc(probabilities[:, 1], targets)
    rounded = {name: round(float(value), 6) for name, value in values.items()}
    return {"items": len(logits), **{name: rounded.get(name) for name in names}}


def evaluate_splits(
    head: nn.Linear,
    encoded: Mapping[str, EncodedSplit],
    tables: Mapping[str, Table],
    problem: Problem,
    calibrations: Calibrations,
) -> dict[str, Any]:
    """Scores of each encoded split, overall and per presence pattern."""
    return {name: evaluate(head, split, tables[name], problem, calibrations) for name, split in encoded.items()}


def evaluate(
    head: nn.Linear, encoded: EncodedSplit, table: Table, problem: Problem, calibrations: Calibrations
) -> dict[str, Scores]:
    """Scores under the configured table (`overall`), and under each presence pattern on every item that allows it.

    `ece_calibrated` is the calibration error of the served scores, which each pattern's temperature has scaled. Of a
    multi-label task, `macro_f1_calibrated` is the F1 of the labels that the service selects by each pattern's
    thresholds. `confidence` is the mean highest served score, which the service exports as
    `mora_prediction_confidence`: lower confidence on live traffic indicates that the data has drifted.
    """
    everything = np.ones(len(table), dtype=bool)
    views = {"overall": (table, everything), **{pattern.value: encoded.under(pattern) for pattern in Pattern}}
    return {
        name: _scores(encoded.logits(head, view)[chosen], encoded.targets[chosen], view[chosen], problem, calibrations)
        for name, (view, chosen) in views.items()
    }


def calibrated(logits: Tensor, table: Table, calibrations: Calibrations) -> Tensor:
    """(N, C): each row divided by the temperature of the pattern that the table gives it."""
    temperature = torch.tensor([calibrations[PATTERN_OF[lacks]].temperature for lacks in table])
    return logits / temperature.unsqueeze(1)


def _scores(logits: Tensor, targets: Tensor, table: Table, problem: Problem, calibrations: Calibrations) -> Scores:
    scores = score(logits, targets, problem)
    served = calibrated(logits, table, calibrations)
    scores["ece_calibrated"] = score(served, targets, problem)["ece"]
    scores["confidence"] = None
    if scores["accuracy"] is not None:
        probabilities = served.sigmoid() if problem is Problem.MULTI_LABEL else served.softmax(dim=-1)
        scores["confidence"] = round(float(probabilities.max(dim=-1).values.mean()), 6)
        if problem is Problem.MULTI_LABEL:
            thresholds = torch.tensor([calibrations[PATTERN_OF[lacks]].thresholds for lacks in table])  # (N, C)
            selected = (probabilities >= thresholds).int()
            f1 = metrics.multilabel_f1_score(selected, targets.int(), logits.shape[1], average="macro")
            scores["macro_f1_calibrated"] = round(float(f1), 6)
    return scores


def selection_metric(problem: Problem, labels: tuple[str, ...], split: Split) -> str:
    """The validation score that selects the best epoch: the usual one of the problem (METHOD: protocol)."""
    if problem is Problem.MULTI_LABEL:
        return "macro_f1"
    present = {label for item in split.items for label in item.labels}
    return "auroc" if len(labels) == 2 and present == set(labels) else "accuracy"
