"""The accuracy check of int8 and fp16: a precision is published if it costs no pattern more than the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model_store import Pattern, Precision
from training.data.examples import Example
from training.data.splits import Split
from training.export.onnx_graphs import GraphFiles
from training.export.onnx_model import OnnxModel
from training.export.quantization import converted
from training.learning.batches import Collator, RawInputs
from training.learning.encoded_split import EncodedSplit
from training.learning.evaluation import headline_metric, score
from training.learning.runs import TrainedTask

_BATCH = 16


@dataclass(frozen=True)
class PrecisionCheck:
    """The effect of one precision on a task's answers on its validation split.

    `change` is the difference from fp32 in points of `metric`: -0.5 for an accuracy that fell from 80.0 % to 79.5 %.
    `max_logit_error` is the largest absolute difference of a logit from fp32's. `problem` is the reason why the
    precision is not published.
    """

    precision: Precision
    metric: str
    change: dict[Pattern, float]
    max_logit_error: dict[Pattern, float]
    files: GraphFiles | None
    problem: str | None = None

    def __str__(self) -> str:
        outcome = "accepted" if self.problem is None else f"not published, {self.problem}"
        changes = ", ".join(f"{pattern} {change:+.2f}" for pattern, change in self.change.items())
        return f"{self.precision} {outcome}" + (f" ({self.metric} {changes} points)" if changes else "")


@dataclass(frozen=True)
class PrecisionChecker:
    """Runs graphs of other precisions on the validation split, beside the fp32 graphs.

    `golden` holds the items of the golden examples with their logits (C,).
    """

    trained: TrainedTask
    fp32: GraphFiles
    absent: dict[str, Tensor]
    examples: Split
    golden: Sequence[tuple[Pattern, Example, Tensor]]

    def check(self, precision: Precision) -> PrecisionCheck:
        """Convert the graphs to a precision, run them, and measure the difference. A failure is a result too."""
        config, expected = self.trained.config, self._expected
        metric = headline_metric(config.problem, self.trained.labels, self.examples)
        try:
            files = converted(self.fp32, precision)
            model = self._model(files)
            batch_size = 1 if precision is Precision.INT8 else _BATCH  # one at a time, as the service runs it
            encoded = model.encode(self.examples, expected.targets, precision, batch_size)
            errors = self._errors(model, encoded)
        except Exception as error:  # converters and runtimes raise any exception; fp32 is published anyway
            reason = str(error).partition("\n")[0]
            failed = f"its graphs cannot be made or run here: {type(error).__name__}: {reason}"
            return PrecisionCheck(precision, metric, {}, {}, None, failed)
        change = self._change(encoded, metric)
        problem = _problem(change, errors, config.export.accuracy_budget)
        return PrecisionCheck(precision, metric, change, errors, files if problem is None else None, problem)

    @cached_property
    def _expected(self) -> EncodedSplit:
        """The split as the fp32 graphs encode it."""
        trained = self.trained
        collator = Collator(RawInputs(trained.preprocessor), trained.labels, trained.config.problem)
        targets = collator.targets(self.examples.items)
        return self._model(self.fp32).encode(self.examples, targets, Precision.FP32, _BATCH)

    def _model(self, files: GraphFiles) -> OnnxModel:
        return OnnxModel(files, self.absent, self.trained)

    def _errors(self, model: OnnxModel, encoded: EncodedSplit) -> dict[Pattern, float]:
        """Largest absolute difference of a logit by pattern; 0 for a pattern that no item has."""
        head = self.trained.model.head
        differences = {pattern: [torch.zeros(1)] for pattern in Pattern}
        for pattern, parts in differences.items():
            logits, expected = (each.of_pattern(head, pattern).logits for each in (encoded, self._expected))
            parts.append((logits - expected).flatten())
        for pattern, item, logits in self.golden:
            differences[pattern].append(model.logits(item) - logits)
        return {pattern: float(torch.cat(parts).abs().max()) for pattern, parts in differences.items()}

    def _change(self, encoded: EncodedSplit, metric: str) -> dict[Pattern, float]:
        """In points, of the patterns that some item of the split has."""
        head, problem, change = self.trained.model.head, self.trained.config.problem, {}
        for pattern in Pattern:
            before, after = (
                score(answers.logits, answers.targets, problem)[metric]
                for answers in (split.of_pattern(head, pattern) for split in (self._expected, encoded))
            )
            if before is not None and after is not None:
                change[pattern] = round(100 * (after - before), 4)
        return change


def _problem(change: dict[Pattern, float], errors: dict[Pattern, float], budget: float) -> str | None:
    if not all(map(math.isfinite, errors.values())):
        return "its logits are not finite"
    unknown = [pattern for pattern in Pattern if pattern not in change]
    if unknown:
        return f"no validation item shows its effect on {' and '.join(unknown)}"
    if min(change.values()) < -budget:
        return f"it costs more than export.accuracy_budget, {budget:g} points"
    return None
