"""A cache of trunk outputs, keyed by what computes them: the trunk's file, its execution and the input."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from service.models.execution import Execution
from service.models.graphs import Graph

Key = tuple[str, Execution, bytes]


class TrunkCache:
    """Keeps the most recently used outputs, up to a number of bytes. Safe to use from several threads.

    Args:
        max_bytes: 0 turns the cache off; the caller must check it.
        requests: counts `hit` and `miss`.
    """

    def __init__(self, max_bytes: int, requests: Counter) -> None:
        self.max_bytes = max_bytes
        self._requests = requests
        self._bytes = 0
        self._outputs: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()
        self._changing = threading.Lock()

    def key(self, trunk: Graph, trunk_input: NDArray[np.generic]) -> Key:
        """The key of an input's output."""
        return trunk.sha256, trunk.execution, hashlib.sha256(np.ascontiguousarray(trunk_input).data).digest()

    def get(self, key: Key) -> NDArray[np.float32] | None:
        """(1, L, D), or None for an unknown key."""
        with self._changing:
            output = self._outputs.get(key)
            if output is not None:
                self._outputs.move_to_end(key)
        self._requests.labels("miss" if output is None else "hit").inc()
        return output

    def put(self, key: Key, output: NDArray[np.float32]) -> None:
        """Keep an output (1, L, D) and drop the least recently used ones beyond the limit."""
        if output.nbytes > self.max_bytes:
            return
        copy = output.copy()  # a view would keep its whole batch in memory
        with self._changing:
            replaced = self._outputs.pop(key, None)
            self._outputs[key] = copy
            self._bytes += copy.nbytes - (0 if replaced is None else replaced.nbytes)
            while self._bytes > self.max_bytes:
                self._bytes -= self._outputs.popitem(last=False)[1].nbytes
