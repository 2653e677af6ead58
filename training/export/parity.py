"""The check that exported graphs give PyTorch's logits, and that these are logits of a model that has converged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from model_store import Pattern
from training.config import TaskConfig
from training.errors import DivergedError, ExportError

MAX_LOGIT_ERROR = 1e-4
_LARGEST_LOGIT = 1e3  # from here on, float32 rounds by more than the largest accepted error


@dataclass(frozen=True)
class Parity:
    """By presence pattern: the largest difference of a logit from PyTorch's, and PyTorch's largest logit."""

    error: dict[Pattern, float]
    largest_logit: dict[Pattern, float]

    def check(self, config: TaskConfig) -> None:
        """Raise DivergedError for logits that no converged model has, and ExportError for a difference above 1e-4."""
        for pattern in self.error:
            error, largest = self.error[pattern], self.largest_logit[pattern]
            if not math.isfinite(largest) or (error > MAX_LOGIT_ERROR and largest > _LARGEST_LOGIT):
                reach = f"reach {largest:.1e}" if math.isfinite(largest) else "are not finite"
                raise DivergedError(f"the logits of {pattern} {reach}, so {_cure(config)}; nothing is published")
            if not error <= MAX_LOGIT_ERROR:
                raise ExportError(
                    f"the exported graphs differ from PyTorch by {error:.1e} in a logit of {pattern}, more than "
                    f"{MAX_LOGIT_ERROR:.0e}; nothing is published. Check the versions of torch and onnxruntime against "
                    "constraints.txt"
                )


def _cure(config: TaskConfig) -> str:
    if config.imported is not None and config.imported.head == "taken":
        return "the training of the imported model diverged: import an earlier checkpoint"
    rate = config.train.learning_rate
    return f"training diverged: train again with a lower train.learning_rate (it is {rate:g}) and --overwrite"
