"""The difference of two models on the same items, with its interval."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Z = 1.96  # of a 95 % interval


class PairedDifference(NamedTuple):
    """Mean difference of paired scores and its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(before: NDArray[np.float64], after: NDArray[np.float64]) -> PairedDifference:
    """The mean of `after - before` over at least one item; the scores (n,) are from 0 to 1.

    The interval is that of Bonett and Price (2012) for paired shares: the usual one after two items are added, of which
    one gained 1 and the other lost 1. So a few items prove little, even if all of them differ.
    """
    difference = after - before
    adjusted = np.append(difference, [1.0, -1.0])
    centre, half = float(adjusted.mean()), _Z * float(adjusted.std()) / math.sqrt(len(adjusted))
    return PairedDifference(float(difference.mean()), max(centre - half, -1.0), min(centre + half, 1.0))
