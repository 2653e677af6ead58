"""A trend that outliers do not bend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """The median slope between any two samples (Theil 1950, Sen 1968): up to 29 % of them may be anything at all."""
    x, y = np.asarray(times, float), np.asarray(values, float)
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))
