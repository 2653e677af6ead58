"""How much lower the loss of a trained model is than that of its start, and whether that is clear."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

NEGLIGIBLE = 1e-3  # mean loss of the items; no gain below it is worth an adapter
_CLEAR = 2.0  # standard errors


class Gain(NamedTuple):
    """The mean loss of the start minus that of the trained model over the same items, and its standard error."""

    mean: float
    error: float

    @property
    def is_clear(self) -> bool:
        """Whether it is at least 0.001 and more than two standard errors."""
        return self.mean > max(NEGLIGIBLE, _CLEAR * self.error)

    def in_words(self) -> str:
        """How the loss of the trained model compares, for a note."""
        if self.mean <= 0:
            return f"{-self.mean:.3f} higher"
        if self.is_clear:
            return f"{self.mean:.3f} lower (standard error {self.error:.3f})"
        need = f"{NEGLIGIBLE:g} and {_CLEAR:g} standard errors, each {self.error:.3f}"
        return f"{self.mean:.3f} lower, which is not clear: it must be more than {need}"

    def summary(self) -> dict[str, float | None]:
        """The gain for metrics.json; the error is None if it is not known."""
        error = round(self.error, 6) if math.isfinite(self.error) else None
        return {"log_loss_gain": round(self.mean, 6), "standard_error": error}


def paired_gain(before: Tensor, after: Tensor) -> Gain:
    """The gain of the losses (n,) of the same items."""
    difference = (before - after).double()
    error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    return Gain(float(difference.mean()), error)
