"""Run a batch of inputs through their shared trunk, and each input through the tails of its tasks."""

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
from service.models.tail import Tail


@dataclass(frozen=True)
class Admission:
    """The properties of an input that decide whether a queue accepts it, and when it runs.

    Attributes:
        task: the task whose share the run counts against.
        tokens: size of the input.
        alone: it shares no run, because other inputs would change the answer (`Model.runs_alone`).
        deadline: latest time of the answer, by `time.perf_counter`.
    """

    task: str
    tokens: int
    alone: bool = False
    deadline: float = math.inf


@dataclass(frozen=True)
class TowerInput:
    """One modality of one item, with the trunk and the tails to run.

    Shapes:
        trunk_input: (1, ...); tail_inputs: (1,) each, `last_token` for a text and nothing for an image.
    """

    trunk: Graph
    tails: tuple[Tail, ...]
    trunk_input: NDArray[np.generic]
    tail_inputs: tuple[NDArray[np.generic], ...]
    admission: Admission


def forward(inputs: Sequence[TowerInput], cache: TrunkCache, options: RunOptions | None = None) -> list[list[Vector]]:
    """Features (P,) of each input in each of its tails. The trunk runs once, each tail only for its own inputs.

    Args:
        options: setting their `terminate` stops the runs, which then raise.
    """
    tail_inputs = [np.concatenate(column) for column in zip(*(item.tail_inputs for item in inputs), strict=True)]
    rows_by_tail: dict[Tail, list[int]] = {}
    for row, item in enumerate(inputs):
        for tail in dict.fromkeys(item.tails):
            rows_by_tail.setdefault(tail, []).append(row)
    hidden = _hidden(inputs, cache, options)
    vectors: dict[tuple[int, Tail], Vector] = {}
    for tail, rows in rows_by_tail.items():
        if len(rows) == len(inputs):
            features = tail.run(hidden, *tail_inputs, options=options)
        else:
            hidden = on_host(hidden)
            features = tail.run(*(array[rows] for array in (hidden, *tail_inputs)), options=options)
        vectors.update({(row, tail): vector for row, vector in zip(rows, features, strict=True)})
    return [[vectors[row, tail] for tail in item.tails] for row, item in enumerate(inputs)]


def _hidden(inputs: Sequence[TowerInput], cache: TrunkCache, options: RunOptions | None) -> Array:
    """(B, L, D): the trunk's output of each input, from the cache or from a run."""
    trunk = inputs[0].trunk
    if not cache.max_bytes:
        return trunk.run_on_device(stack([item.trunk_input for item in inputs]), options=options)
    keys = [cache.key(trunk, item.trunk_input) for item in inputs]
    outputs = [cache.get(key) for key in keys]
    if missing := [row for row, output in enumerate(outputs) if output is None]:
        computed = on_host(trunk.run_on_device(stack([inputs[row].trunk_input for row in missing]), options=options))
        for row, output in zip(missing, computed, strict=True):
            outputs[row] = output[None]
            cache.put(keys[row], output[None])
        if len(missing) == len(inputs):
            return computed
    return stack([output for output in outputs if output is not None])


def stack(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
    """Arrays (1, l, ...) as one of (B, L, ...), with zeros at the end. A causal tower never reads these zeros."""
    longest = max(array.shape[1] for array in arrays)
    stacked = np.zeros((len(arrays), longest, *arrays[0].shape[2:]), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[: array.shape[1]] = array[0]
    return stacked
