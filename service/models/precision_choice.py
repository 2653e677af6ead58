"""Which of a version's precisions is served."""

from __future__ import annotations

from collections.abc import Collection

from model_store import Precision
from service.models.refusal import RefusedError

_ON_GPU = (Precision.FP16, Precision.FP32)  # int8 would run on the processor
_ON_CPU = (Precision.INT8, Precision.FP32)  # fp16 would be turned into fp32 at every step


def choose_precision(available: Collection[Precision], asked: str, on_gpu: bool) -> Precision:
    """The asked precision; for `auto` the fastest that this device has a use for, which is fp32 at the least.

    An asked one is never replaced by another: whoever names it counts on its speed or on its answers.

    Raises:
        RefusedError: `precision`, the version lacks the one that was asked for.
    """
    if asked == "auto":
        return next(precision for precision in (_ON_GPU if on_gpu else _ON_CPU) if precision in available)
    precision = Precision(asked)
    if precision not in available:
        has = " and ".join(sorted(available))
        cure = f"set MORA_PRECISION to auto, or publish a version with {asked} (export.precisions)"
        raise RefusedError("precision", f"the version has {has}, not {asked}; {cure}")
    return precision
