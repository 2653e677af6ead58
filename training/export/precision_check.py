"""The precisions that may be served: they cost no presence pattern more accuracy than the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model_store import Pattern, Precision
from training.data.examples import Example
from training.data.splits import Split
from training.export.onnx_graphs import GraphFiles
from training.export.onnx_model import OnnxModel
from training.export.quantization import converted
from training.learning.batches import Collator, RawInputs
from training.learning.evaluation import EncodedSplit, score, selection_metric
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
        changes = ", ".join(f"{pattern} {change:+.2f}" for pattern, change in self.change.items())
        measured = f"{self.metric} {changes} points" if changes else ""
        outcome = "accepted" if self.problem is None else f"not published, {self.problem}"
        return f"{self.precision} {outcome}" + (f" ({measured})" if measured else "")


class PrecisionChecker:
    """Runs graphs of other precisions on the validation split, beside the fp32 graphs.

    Args:
        golden: the items of the golden examples with their logits (C,).
    """

    def __init__(
        self,
        trained: TrainedTask,
        fp32: GraphFiles,
        absent: dict[str, Tensor],
        examples: Split,
        golden: Sequence[tuple[Pattern, Example, Tensor]],
    ) -> None:
        self._trained, self._fp32, self._absent, self._examples, self._golden = trained, fp32, absent, examples, golden
        self._metric = selection_metric(trained.config.problem, trained.labels, examples)
        collator = Collator(RawInputs(trained.preprocessor), trained.labels, trained.config.problem)
        self._targets = collator.targets(examples.items)
        self._expected = self._model(fp32).encode(examples, self._targets, Precision.FP32, _BATCH)

    def check(self, precision: Precision) -> PrecisionCheck:
        """Make the graphs of a precision, run them, and measure their cost. A failure is a result too."""
        try:
            files = converted(self._fp32, precision)
            model = self._model(files)
            batch_size = 1 if precision is Precision.INT8 else _BATCH  # one at a time, as the service runs it
            encoded = model.encode(self._examples, self._targets, precision, batch_size)
            errors = self._errors(model, encoded)
        except Exception as error:  # converters and runtimes raise any exception; fp32 is published anyway
            reason = str(error).partition("\n")[0]
            failed = f"its graphs cannot be made or run here: {type(error).__name__}: {reason}"
            return PrecisionCheck(precision, self._metric, {}, {}, None, failed)
        change = self._change(encoded)
        problem = self._problem(change, errors)
        return PrecisionCheck(precision, self._metric, change, errors, files if problem is None else None, problem)

    def _model(self, files: GraphFiles) -> OnnxModel:
        return OnnxModel(files, self._absent, self._trained.model.head, self._trained.preprocessor)

    def _errors(self, model: OnnxModel, encoded: EncodedSplit) -> dict[Pattern, float]:
        head = self._trained.model.head
        differences: dict[Pattern, list[Tensor]] = {
            pattern: [(encoded.of_pattern(head, pattern)[0] - self._expected.of_pattern(head, pattern)[0]).flatten()]
            for pattern in Pattern
        }
        for pattern, item, logits in self._golden:
            differences[pattern].append(model.logits(item) - logits)
        none = torch.zeros(1)  # for a pattern that no item has
        return {pattern: float(torch.cat([none, *parts]).abs().max()) for pattern, parts in differences.items()}

    def _change(self, encoded: EncodedSplit) -> dict[Pattern, float]:
        """In points, of the patterns that some item of the split has."""
        head, problem, change = self._trained.model.head, self._trained.config.problem, {}
        for pattern in Pattern:
            before, after = (
                score(*split.of_pattern(head, pattern), problem)[self._metric] for split in (self._expected, encoded)
            )
            if before is not None and after is not None:
                change[pattern] = round(100 * (after - before), 4)
        return change

    def _problem(self, change: dict[Pattern, float], errors: dict[Pattern, float]) -> str | None:
        budget = self._trained.config.export.accuracy_budget
        if not all(map(math.isfinite, errors.values())):
            return "its logits are not finite"
        unknown = [pattern for pattern in Pattern if pattern not in change]
        if unknown:
            return f"no validation item shows its effect on {' and '.join(unknown)}"
        if min(change.values()) < -budget:
            return f"it costs more than export.accuracy_budget, {budget:g} points"
        return None
