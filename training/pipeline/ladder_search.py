"""The search for the best of many ordered values, such as learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Score = float | None  # higher is better; None: training diverged
_WIDENINGS = 3  # values that may be tried beyond the first three


def search_ladder(ladder: Sequence[float], start: int, score: Callable[[float], Score]) -> dict[float, Score]:
    """The score of every value that was tried: that at `start`, its neighbours, and beyond an edge while it is best.

    Args:
        ladder: the values in rising order.
    """
    lowest, highest = max(start - 1, 0), min(start + 1, len(ladder) - 1)
    scores = {value: score(value) for value in ladder[lowest : highest + 1]}
    for _ in range(_WIDENINGS):
        if lowest and best(scores, ladder[start]) == ladder[lowest]:
            lowest -= 1
            scores[ladder[lowest]] = score(ladder[lowest])
        elif highest < len(ladder) - 1 and best(scores, ladder[start]) == ladder[highest]:
            highest += 1
            scores[ladder[highest]] = score(ladder[highest])
    return scores


def best(scores: Mapping[float, Score], start: float) -> float:
    """The value of the highest score; of equal ones that nearest to `start`; the lowest if training always diverged."""
    known = {value: score for value, score in scores.items() if score is not None}
    if not known:
        return min(scores)
    return min(known, key=lambda value: (-known[value], abs(math.log(value / start)), value))


def rates_around(rate: float) -> tuple[list[float], int]:
    """A ladder of learning rates, three significant digits each and half a power of ten apart, and the rate's place."""
    reach = _WIDENINGS + 1
    rates = [float(f"{rate * 10 ** (step / 2):.3g}") for step in range(-reach, reach + 1)]
    return [*rates[:reach], rate, *rates[reach + 1 :]], reach
