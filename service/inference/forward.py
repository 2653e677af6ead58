"""A batch of inputs through the trunk they share, and through the tails of whichever tasks asked for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnxruntime import RunOptions

from service.inference.trunk_cache import TrunkCache
from service.models.graphs import Array, Graph, on_host
from service.models.head import Vector


@dataclass(frozen=True)
class Admission:
    """What an input wants of an encoder.

    Attributes:
        task: in whose turn it runs.
        tokens: what it costs.
        alone: share no run. int8 kernels scale activations over the whole run, so a neighbour would change the answer.
        deadline: of `time.perf_counter`, when its answer must be there.
    """

    task: str
    tokens: int
    alone: bool = False
    deadline: float = math.inf


@dataclass(frozen=True)
class TowerInput:
    """One modality of one item on its way through a trunk and the tails of all tasks that asked for it.

    Shapes:
        trunk_input: (1, ...); tail_inputs: (1,) each, `last_token` of a text and nothing of an image.
    """

    trunk: Graph
    tails: tuple[Graph, ...]
    trunk_input: NDArray[np.generic]
    tail_inputs: tuple[NDArray[np.generic], ...]
    admission: Admission


def forward(inputs: Sequence[TowerInput], cache: TrunkCache, options: RunOptions | None = None) -> list[list[Vector]]:
    """Features (P,) of each input in each of its tails: the shared trunk runs once, a tail for its own rows.

    Args:
        options: whoever sets their `terminate` stops the runs, which then raise.
    """
    others = [np.concatenate(column) for column in zip(*(item.tail_inputs for item in inputs), strict=True)]
    by_tail: dict[Graph, list[int]] = {}
    for row, item in enumerate(inputs):
        for tail in dict.fromkeys(item.tails):
            by_tail.setdefault(tail, []).append(row)
    hidden = _hidden(inputs, cache, options)
    found: dict[tuple[int, Graph], Vector] = {}
    for tail, rows in by_tail.items():
        if len(rows) == len(inputs):
            features = tail.run(hidden, *others, options=options)
        else:
            hidden = on_host(hidden)
            features = tail.run(*(array[rows] for array in (hidden, *others)), options=options)
        found.update({(row, tail): vector for row, vector in zip(rows, features, strict=True)})
    return [[found[row, tail] for tail in item.tails] for row, item in enumerate(inputs)]


def _hidden(inputs: Sequence[TowerInput], cache: TrunkCache, options: RunOptions | None) -> Array:
    """(B, L, D): the trunk's output of each input, from the cache where that has it, else where it was computed."""
    trunk = inputs[0].trunk
    keys = [cache.key(trunk, item.trunk_input) for item in inputs]
    known = [cache.get(key) for key in keys]
    fresh = [place for place, hidden in enumerate(known) if hidden is None]
    if not fresh:
        return stack([hidden for hidden in known if hidden is not None])
    output = trunk.run_on_device(stack([inputs[place].trunk_input for place in fresh]), options=options)
    if keys[0] is None:
        return output
    computed = on_host(output)
    for place, row in zip(fresh, computed, strict=True):
        cache.put(keys[place], row[None])
    if len(fresh) == len(inputs):
        return computed
    rows = iter(computed)
    return stack([next(rows)[None] if hidden is None else hidden for hidden in known])


def stack(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
    """(B, L, ...) of arrays (1, L or less, ...), zeros behind the shorter ones: a causal tower never sees them."""
    longest = max(array.shape[1] for array in arrays)
    stacked = np.zeros((len(arrays), longest, *arrays[0].shape[2:]), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: array.shape[1]] = array[0]
    return stacked
