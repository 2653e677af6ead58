"""The effect of another precision on a model's answers, measured on their logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model_store import Calibration, PrecisionEffect
from training.learning.calibration import Answers
from training.learning.decisions import answer_scores, decision_logits
from training.learning.paired import PairedDifference, paired_difference

_Z = 1.96  # of a 95 % interval
_LEAST_ERROR = 1e-12  # of equal logits


def precision_effect(reference: Answers, candidate: Tensor, calibration: Calibration) -> PrecisionEffect:
    """The changed answers, the logit error, and the expected loss of one presence pattern.

    A few items seldom change their answer, so counting the changed ones shows little. The expected loss uses the
    margins of all items: it is the probability that an error of this size changes an item's answer, times the cost of
    the change. The probability is 1 for an answer that did change, else Phi(-margin / error), where the error is the
    root mean square over the items. The cost is the reference's probability of its answer minus that of the new one, or
    of the second best: at a tie, a change costs nothing.

    A multi-label item has such a decision for each label. Its loss is one of F1, to which each label contributes a
    share of 1 / (number of selected labels).

    Args:
        reference: at least two answers of the fp32 graphs.
        candidate: (n, C), logits of the other precision for the same items.
        calibration: of the pattern.
    """
    before, after = (decision_logits(logits, calibration) for logits in (reference.logits, candidate))
    decide = _of_best if calibration.thresholds is None else _of_sets
    margin, new_margin, cost, is_changed = decide(before, after)
    error = (new_margin - margin).square().mean().sqrt().clamp_min(_LEAST_ERROR)
    chance = torch.where(is_changed, 1.0, torch.special.ndtr(-margin / error))
    loss = 100 * (chance * cost).sum(dim=-1).clamp_max(1)  # (n,) in points
    mean, half = float(loss.mean()), _Z * float(loss.std()) / math.sqrt(len(loss))
    return PrecisionEffect(
        items=len(loss),
        changed_answers=int(is_changed.any(dim=-1).sum()),
        mean_logit_error=float((candidate - reference.logits).abs().mean()),
        expected_loss=round(mean, 4),
        expected_loss_interval=(round(max(mean - half, 0.0), 4), round(mean + half, 4)),
    )


def score_change(reference: Answers, candidate: Tensor, calibration: Calibration) -> PairedDifference:
    """The change of the mean score, which is the accuracy or the F1 of an item's labels."""
    before, after = (
        answer_scores(logits, reference.targets, calibration).numpy() for logits in (reference.logits, candidate)
    )
    return paired_difference(before, after)


def _of_best(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Single-label: margins before and after, cost, and whether the answer changed, each (n, 1)."""
    best, new = (logits.argmax(dim=-1, keepdim=True) for logits in (before, after))
    second = before.scatter(1, best, -math.inf).argmax(dim=-1, keepdim=True)
    rival = torch.where(new == best, second, new)
    margin, new_margin, cost = (
        values.gather(1, best) - values.gather(1, rival) for values in (before, after, before.softmax(dim=-1))
    )
    return margin, new_margin, cost, new != best


def _of_sets(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Multi-label: the same for each label (n, C). A label at its threshold is a tie."""
    is_selected = before >= 0
    new_margin = torch.where(is_selected, after, -after)
    share = 1 / is_selected.sum(dim=-1, keepdim=True).clamp_min(1)
    return before.abs(), new_margin, (before.abs() / 2).tanh() * share, is_selected != (after >= 0)
