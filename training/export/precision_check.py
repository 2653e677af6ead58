"""The accuracy check of other precisions: one is published if it costs no pattern more than the budget."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from model_store import Calibration, Pattern, Precision, PrecisionEffect, Problem, openvino
from training.data.copies import distinct_targets
from training.data.examples import Example
from training.data.splits import Split, TaskData
from training.export.onnx_graphs import GraphFiles
from training.export.onnx_model import OnnxModel
from training.export.precision_effect import precision_effect, score_change
from training.export.quantization import converted
from training.export.static_int8 import Feed
from training.learning.encoded_pairs import EncodedPairs, pairs_of
from training.learning.encoded_split import EncodedSplit
from training.learning.paired import PairedDifference
from training.learning.runs import TrainedTask

_BATCH = 16
_CALIBRATION_ITEMS = 64  # of each modality, which fix the scales of int8
_MOST_ITEMS = 1000  # more would take minutes and hardly narrow the intervals
_BF16_ERROR = 0.01  # of the largest logit, where it cannot be measured; bf16 keeps 8 bits of a number
_LEAST_ITEMS = 2  # of a pattern; one item has no interval

Metric = Literal["accuracy", "F1", "recall@1"]  # F1: the mean of the items' F1
_METRICS: dict[Problem, Metric] = {
    Problem.SINGLE_LABEL: "accuracy",
    Problem.MULTI_LABEL: "F1",
    Problem.RETRIEVAL: "recall@1",
}


@dataclass(frozen=True)
class PrecisionCheck:
    """The effect of one precision on a task's answers, by presence pattern.

    `effects` and `change` have the patterns that items of the data can have. `change` is the change of `metric` in
    points, on the items.
    `max_logit_error` is the largest absolute difference of a logit from fp32's. `problem` is the reason why the
    precision is not published. `unmeasured` is the reason why nothing was measured: a service then accepts the
    precision if it answers the golden examples within twice `max_logit_error`.
    """

    precision: Precision
    metric: Metric
    files: GraphFiles | None = None
    problem: str | None = None
    effects: dict[Pattern, PrecisionEffect] = field(default_factory=dict)
    change: dict[Pattern, float] = field(default_factory=dict)
    max_logit_error: dict[Pattern, float] = field(default_factory=dict)
    unmeasured: str | None = None

    def __str__(self) -> str:
        if self.unmeasured is not None:
            return f"{self.precision} not measured, because {self.unmeasured}; each service tries the golden examples"
        outcome = "accepted" if self.problem is None else f"not published, {self.problem}"
        skipped = [pattern for pattern in Pattern if pattern not in self.effects]
        lines = [self._line(pattern, effect) for pattern, effect in self.effects.items()]
        if self.effects and skipped:
            lines.append(f"{' and '.join(skipped)}: not checked, because the data has no such items or only one")
        return "\n  ".join([f"{self.precision} {outcome}", *lines])

    def _line(self, pattern: Pattern, effect: PrecisionEffect) -> str:
        low, high = effect.expected_loss_interval
        return (
            f"{pattern}: {effect.changed_answers} of {effect.items:,} answers changed, {self.metric} "
            f"{self.change[pattern]:+.2f} points, expected loss {effect.expected_loss:.2f} points (95 % interval "
            f"{low:.2f} to {high:.2f}), logit error {effect.mean_logit_error:.2g} on average and "
            f"{self.max_logit_error[pattern]:.2g} at most"
        )


@dataclass(frozen=True)
class PrecisionChecker:
    """Runs graphs of other precisions on the items of all splits, beside the fp32 graphs.

    Attributes:
        golden: the items of the golden examples with their logits (C,).
        known_trunks: int8 trunks of other tasks on the same backbone. They are used if the answers allow it.
    """

    trained: TrainedTask
    fp32: GraphFiles
    absent: dict[str, Tensor]
    data: TaskData
    golden: Sequence[tuple[Pattern, Example, Tensor]]
    known_trunks: GraphFiles = field(default_factory=dict)

    def check(self, precision: Precision) -> PrecisionCheck:
        """Convert the graphs to a precision, run them, and measure the difference. A failure is a result too."""
        metric = _METRICS[self.trained.config.problem]
        if precision is Precision.BF16 and not openvino.is_fast():
            missing = "this processor has no AMX" if openvino.is_installed() else "the extra openvino is not installed"
            largest = max((float(logits.abs().max()) for _, _, logits in self.golden), default=0.0)
            error = dict.fromkeys(Pattern, _BF16_ERROR * largest)
            return PrecisionCheck(precision, metric, self.fp32, unmeasured=missing, max_logit_error=error)
        if precision is Precision.INT8 and self.known_trunks:
            shared = self._measure(precision, metric, self.known_trunks)
            if shared.problem is None:
                return shared
        return self._measure(precision, metric, {})

    def _measure(self, precision: Precision, metric: Metric, trunks: GraphFiles) -> PrecisionCheck:
        """Convert the graphs, except for the given trunks, and measure the difference."""
        expected = self._expected
        try:
            fp32 = {name: data for name, data in self.fp32.items() if name not in trunks}
            items = self._calibration_inputs if precision is Precision.INT8 else {}
            files = converted(fp32, precision, items) | trunks
            model = OnnxModel(files, self.absent, self.trained, precision)
            encoded = model.encode(self._sides, expected.targets, precision, _BATCH)
            errors = self._errors(model, encoded)
        except Exception as error:  # converters and runtimes raise any exception; fp32 is published anyway
            reason = str(error).partition("\n")[0]
            failed = f"its graphs cannot be made or run here: {type(error).__name__}: {reason}"
            return PrecisionCheck(precision, metric, problem=failed)
        if not all(map(math.isfinite, errors.values())):
            return PrecisionCheck(precision, metric, problem="its logits are not finite", max_logit_error=errors)
        effects, changes = self._effects(encoded)
        problem = _problem(effects, changes, self.trained.config.export.accuracy_budget)
        points = {pattern: round(100 * change.mean, 4) for pattern, change in changes.items()}
        return PrecisionCheck(precision, metric, files if problem is None else None, problem, effects, points, errors)

    @cached_property
    def _items(self) -> Split:
        """The items of all splits; of a large data set a part, first of those that were not trained on."""
        chosen: list[Example] = []
        for split in (self.data.validation, self.data.test, self.data.train):
            items = [*split.items]
            if len(chosen) + len(items) > _MOST_ITEMS:
                random.Random(0).shuffle(items)  # noqa: S311 - a file may be sorted by label
            chosen += items[: _MOST_ITEMS - len(chosen)]
        return Split("all", self.data.train.source, chosen)

    @cached_property
    def _sides(self) -> Split:
        """The items and, of a retrieval task, their distinct targets behind them."""
        return replace(self._items, items=[*self._items.items, *distinct_targets(self._items.items)])

    @cached_property
    def _calibration_inputs(self) -> dict[str, list[Feed]]:
        """Inputs of the fp32 graphs for training items of all patterns: distinct pictures, and distinct texts."""
        items = [*self.data.train.sides]
        random.Random(0).shuffle(items)  # noqa: S311 - a file may be sorted by label
        images = {item.image: item for item in items if item.image is not None}
        texts = {item.text: item for item in items if item.text is not None}
        chosen = ([*each.values()][:_CALIBRATION_ITEMS] for each in (images, texts))
        return self._fp32_model.inputs(*chosen)

    @cached_property
    def _fp32_model(self) -> OnnxModel:
        return OnnxModel(self.fp32, self.absent, self.trained)

    @cached_property
    def _expected(self) -> EncodedSplit:
        """The items as the fp32 graphs encode them."""
        trained = self.trained
        collator = trained.collator()
        targets = collator.targets(self._sides.items)
        return self._fp32_model.encode(self._sides, targets, Precision.FP32, _BATCH)

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

    def _effects(self, encoded: EncodedSplit) -> tuple[dict[Pattern, PrecisionEffect], dict[Pattern, PairedDifference]]:
        """Effect and change of the score by pattern, with the other modality of complete items hidden.

        The answer of a retrieval task is the nearest target, whose probability is the softmax of the cosines.
        """
        head, effects, changes = self.trained.model.head, {}, {}
        before: EncodedSplit | EncodedPairs = self._expected
        after: EncodedSplit | EncodedPairs = encoded
        is_retrieval = self.trained.config.problem is Problem.RETRIEVAL
        if is_retrieval:
            count = len(self._items.items)
            before, after = (
                pairs_of(each.rows(slice(count)), each.rows(slice(count, None))) for each in (self._expected, encoded)
            )
        for pattern in Pattern:
            calibration = self.trained.calibration[pattern]
            if is_retrieval:
                calibration = Calibration(temperature=self.trained.config.train.temperature)
            reference, logits = before.of_pattern(head, pattern), after.of_pattern(head, pattern).logits
            if len(logits) >= _LEAST_ITEMS:
                effects[pattern] = precision_effect(reference, logits, calibration)
                changes[pattern] = score_change(reference, logits, calibration)
        return effects, changes


def _problem(
    effects: dict[Pattern, PrecisionEffect], changes: dict[Pattern, PairedDifference], budget: float
) -> str | None:
    """Why the precision is refused: its expected loss may exceed the budget, or its loss on the items proves it."""
    if not effects:
        return "the data has too few items to show its effect"
    costly = [
        pattern
        for pattern, effect in effects.items()
        if effect.expected_loss_interval[1] > budget or -100 * changes[pattern].high > budget
    ]
    if costly:
        where = " and ".join(costly)
        return f"its loss with {where} may be above export.accuracy_budget, {budget:g} points"
    return None
