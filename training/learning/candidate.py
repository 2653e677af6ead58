"""Models that may be published: the linear probe and the trained one, and the choice between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from model_store import Calibration, Pattern, Problem
from training.config import TaskConfig
from training.data.copies import copy_numbers
from training.data.missing import Table
from training.data.splits import TaskData
from training.learning.batches import Collator
from training.learning.calibration import Answers, calibrate, log_losses
from training.learning.class_weights import remove_shift
from training.learning.encoded_split import SCORED, EncodedSplit, encode_splits
from training.learning.evaluation import calibrated
from training.learning.gain import NEGLIGIBLE, Gain, paired_gain
from training.learning.probe import fit_probe
from training.learning.runs import build
from training.model.classifier import MissingModalityClassifier


@dataclass(frozen=True)
class Candidate:
    """A trained model with its features of every split.

    `config` builds the model again. `held_out` are answers to items that the model was not trained on; they calibrate
    it.
    """

    config: TaskConfig
    model: MissingModalityClassifier
    encoded: Mapping[str, EncodedSplit]
    held_out: Mapping[Pattern, Answers]

    @cached_property
    def calibration(self) -> dict[Pattern, Calibration]:
        """Temperature and thresholds of each pattern."""
        return calibrate(self.held_out, self.config.problem)

    @property
    def is_perfect(self) -> bool:
        """Whether the mean log loss of the held-out answers is below 0.001 under every presence pattern."""
        losses = [
            float(log_losses(answers.logits, answers.targets, self.config.problem).mean())
            for answers in self.held_out.values()
            if len(answers.item)
        ]
        return max(losses, default=math.inf) < NEGLIGIBLE

    def calibration_items(self) -> dict[str, int]:
        """The number of held-out items that each pattern's temperature is fitted on."""
        return {pattern.value: len(answers.item) for pattern, answers in self.held_out.items()}


def adapted(
    config: TaskConfig,
    model: MissingModalityClassifier,
    data: TaskData,
    tables: Mapping[str, Table],
    collator: Collator,
) -> Candidate:
    """A trained model, which its answers to the validation split calibrate."""
    encoded = encode_splits(model, data, collator)
    head = model.cpu().head
    return Candidate(config, model, encoded, encoded["validation"].by_pattern(head, tables["validation"]))


def probed(
    config: TaskConfig,
    data: TaskData,
    tables: Mapping[str, Table],
    folder: Path,
    collator: Collator,
    first_tail_layers: tuple[int, int],
    class_weights: torch.Tensor | None = None,
) -> Candidate:
    """The linear probe on the frozen backbone, whatever the configured method.

    Args:
        folder: the run, which holds the towers of an imported task.
        first_tail_layers: of both towers, for the collator's trunk outputs.
        class_weights: (C,), of the loss.
    """
    config = config.model_copy(update={"method": "head"})
    model, _ = build(config, len(data.labels), folder)
    model.split_at(model.backbone, *first_tail_layers)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    encoded = encode_splits(model, data, collator, ("train", *SCORED))
    groups, dropout = copy_numbers(data.train.items), config.train.modality_dropout
    probe = fit_probe(encoded, tables, groups, len(data.labels), config.problem, dropout, class_weights)
    model.cpu().head.load_state_dict(probe.head.state_dict())
    return Candidate(config, model, encoded, probe.held_out)


def calibratable(candidate: Candidate, class_weights: torch.Tensor | None) -> Candidate:
    """The candidate with scores that calibration can correct, after training with these weights (C,).

    Of a single-label task, nothing changes: the weights decide which label is the answer, and a temperature corrects
    the confidence. Of a multi-label task, thresholds decide, so the weights' shift of the scores is removed.
    """
    if class_weights is None or candidate.config.problem is Problem.SINGLE_LABEL:
        return candidate
    return replace(candidate, held_out=remove_shift(candidate.model.head, candidate.held_out, class_weights))


@dataclass(frozen=True)
class Choice:
    """The linear probe against the trained model, by their calibrated log losses on validation.

    `trained` and `gain`, that of the trained model over the probe, are None if the probe left nothing to gain.
    """

    probe: Candidate
    trained: Candidate | None = None
    gain: Gain | None = None

    @property
    def best(self) -> Candidate:
        """The trained model if its gain is clear, at least 0.001 and more than two standard errors. Else the probe."""
        return self.trained if self.trained is not None and self.gain is not None and self.gain.is_clear else self.probe

    def summary(self) -> dict[str, Any]:
        """The result and its reason, for metrics.json."""
        gain = {"log_loss_gain": None, "standard_error": None} if self.gain is None else self.gain.summary()
        return {"result": self._name, **gain}

    def __str__(self) -> str:
        if self.trained is None or self.gain is None:
            reason = f"its log loss on held-out items is below {NEGLIGIBLE}, so no adapter is trained"
            return f"{self._name} is the result: {reason}"
        method = self.trained.config.method
        reason = f"on validation the log loss of {method} is {self.gain.in_words()}"
        return f"{self._name} is the result: {reason}"

    @property
    def _name(self) -> str:
        return "the linear probe" if self.best is self.probe else self.best.config.method


def choose(probe: Candidate, trained: Candidate, table: Table) -> Choice:
    """Compare both on the validation split under its missing table."""
    return Choice(probe, trained, paired_gain(validation_losses(probe, table), validation_losses(trained, table)))


def validation_losses(candidate: Candidate, table: Table) -> torch.Tensor:
    """The calibrated log loss of each validation item under its missing table: (items,)."""
    split, problem = candidate.encoded["validation"], candidate.config.problem
    logits = split.logits(candidate.model.head, table).double()
    return log_losses(calibrated(logits, table, candidate.calibration), split.targets, problem)
