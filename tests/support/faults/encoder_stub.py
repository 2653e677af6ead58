"""An encoder's queue over graphs that do as they are told: the one place that makes and asks a Batcher."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from prometheus_client import Counter

from service.inference.batching import Batcher
from service.inference.forward import Admission, TowerInput
from service.inference.input_queue import InputQueue
from service.inference.trunk_cache import TrunkCache
from service.models.head import Vector


class Trunk:
    """Gives back what it gets; a batch with a negative number in it fails. `gate` is passed before every run."""

    sha256, tokens = "stub", None

    def __init__(self, gate: Callable[[list[int]], None] = lambda numbers: None) -> None:
        self._gate = gate

    def run_on_device(self, numbers: np.ndarray, *_: object, **__: object) -> np.ndarray:
        self._gate(numbers[:, 0].tolist())
        if (numbers < 0).any():
            raise RuntimeError("poison")
        return numbers


class Tail:
    """(B, 1): twice the number and one."""

    sha256, tokens = "tail", None

    def run(self, hidden: np.ndarray, *_: object, **__: object) -> np.ndarray:
        return 2.0 * hidden[:, :1] + 1


def expected(number: int) -> float:
    """What the tail makes of a number."""
    return 2.0 * number + 1


def make_batcher(queue_size: int, most_in_a_batch: int) -> Batcher:
    """One thread, behind a queue."""
    cache = TrunkCache(0, Counter("cache", "", ["result"], registry=None))
    return Batcher("stub", InputQueue(queue_size, most_in_a_batch, parallel=1, batches=1), cache, lambda size: None)


def item_of(number: int, trunk: Trunk, tail: Tail) -> TowerInput:
    return TowerInput(trunk, (tail,), np.array([[number]]), (), Admission("fruit", 1))


async def answer_to(batcher: Batcher, item: TowerInput) -> float:
    """What the queue says of one input."""
    vectors: list[Vector] = (await batcher.run(item)).result
    return float(vectors[0][0])


class Gate:
    """Holds every run until it is let through, and knows what is in it."""

    def __init__(self) -> None:
        self.inside: list[int] | None = None  # the batch that waits to be let through
        self.seen: set[int] = set()  # every number that ever got this far
        self._is_open = False
        self._changed = threading.Condition()

    def __call__(self, numbers: list[int]) -> None:
        with self._changed:
            self.seen.update(numbers)
            self.inside = numbers
            self._changed.wait_for(lambda: self.inside is None or self._is_open, timeout=60)
            self.inside = None

    def let_through(self) -> None:
        """One run."""
        with self._changed:
            self.inside = None
            self._changed.notify_all()

    def open(self) -> None:
        """Every run from now on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()
