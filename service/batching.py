"""One encoder's queue: a thread that is free takes the oldest input and those that go well with it, as one batch.

Nothing waits for company: an idle encoder starts at once, and what arrives while it runs is the next batch. Presence
never splits a batch, since an item's image and its text are in the queues of different encoders.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from service.cache import TrunkCache
from service.errors import queue_full
from service.forward import TowerInput, forward
from service.head import Vector
from service.workers import Done

_MOST_PADDING = 0.25  # share of a batch's tokens that may be padding


@dataclass(frozen=True, eq=False)
class _Waiting:
    input: TowerInput | None  # None: a probe, answered as soon as a thread takes it
    future: Future[Done[list[Vector]]] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)


class Batcher:
    """Threads of one encoder behind a bounded queue.

    Args:
        threads: runs at the same time.
        batches: how many of those may be of inputs that share runs; one that fills the cores leaves nothing to others.
        max_batch_tokens: the most tokens of a batch, padding included; an input that has more runs alone.
        cache: trunk outputs to reuse.
        observe: told the size of each batch.
    """

    def __init__(
        self,
        encoder: str,
        threads: int,
        batches: int,
        queue_size: int,
        max_batch_tokens: int,
        cache: TrunkCache,
        observe: Callable[[int], None],
    ) -> None:
        self._queue_size = queue_size
        self._max_batch_tokens = max_batch_tokens
        self._cache = cache
        self._observe = observe
        self._changed = threading.Condition()  # guards what follows
        self._queue: list[_Waiting] = []
        self._idle = threads
        self._batches_left = batches
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"mora-{encoder}-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Inputs that no thread is free to take."""
        return max(0, len(self._queue) - self._free(self._queue[0].input)) if self._queue else 0

    async def run(self, item: TowerInput) -> Done[list[Vector]]:
        """Features (P,) of each of the input's tails. Raises ServiceError `queue_full` when too many wait already."""
        with self._changed:
            if len(self._queue) >= self._queue_size + self._free(item):
                raise queue_full()
            waiting = self._append(item)
        return await asyncio.wrap_future(waiting.future)

    async def probe(self) -> None:
        """Return once a thread has taken an empty job, queued behind the others however many they are."""
        with self._changed:
            waiting = self._append(None)
        await asyncio.wrap_future(waiting.future)

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        with self._changed:
            self._closing = True
            for waiting in self._queue:
                waiting.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _append(self, item: TowerInput | None) -> _Waiting:
        waiting = _Waiting(item)
        self._queue.append(waiting)
        self._changed.notify()
        return waiting

    def _free(self, item: TowerInput | None) -> int:
        """How many threads would take such an input at once."""
        return min(self._idle, self._batches_left) if _batchable(item) else self._idle

    def _count(self, item: TowerInput | None, change: int) -> None:
        self._idle += change
        if _batchable(item):
            self._batches_left += change
            self._changed.notify()  # a thread may wait for this alone

    def _work(self) -> None:
        while self._answer_some():
            pass

    def _answer_some(self) -> bool:
        """Run one batch and tell who waits; False when there will be no more. An idle thread holds nothing."""
        batch = self._next()
        if not batch:
            return False
        outcomes = self._run(batch)
        with self._changed:
            self._count(batch[0].input, +1)  # before anyone hears of it, who may then ask again
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)
        return True

    def _next(self) -> list[_Waiting]:
        """Wait for a batch that somebody still wants; empty when there will be none."""
        with self._changed:
            while True:
                self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]
                taken = self._take()
                batch = [waiting for waiting in taken if waiting.future.set_running_or_notify_cancel()]
                if batch:
                    self._count(batch[0].input, -1)
                    return batch
                if self._closing:
                    return []
                if not taken:
                    self._changed.wait()

    def _take(self) -> list[_Waiting]:
        """The oldest input that may run now, with its company; empty when there is none."""
        first = next((waiting for waiting in self._queue if self._free(waiting.input)), None)
        if first is None:
            return []
        if first.input is None or first.input.alone:
            batch = [first]
        else:
            like = [waiting for waiting in self._queue if waiting.input and waiting.input.trunk is first.input.trunk]
            tokens = [waiting.input.tokens for waiting in like if waiting.input]
            batch = [like[place] for place in choose(tokens, self._max_batch_tokens)]
        self._queue = [waiting for waiting in self._queue if waiting not in batch]
        return batch

    def _run(self, batch: list[_Waiting]) -> list[Done[list[Vector]] | Exception]:
        """What became of each. A batch that fails is run again in halves, so that only the input at fault fails."""
        inputs = [waiting.input for waiting in batch if waiting.input]
        started = time.perf_counter()
        try:
            features = forward(inputs, self._cache) if inputs else [[]]
        except Exception as error:  # whatever a graph raises, the thread and the neighbours go on
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2
            return self._run(batch[:middle]) + self._run(batch[middle:])
        seconds = time.perf_counter() - started
        if inputs:
            self._observe(len(inputs))
        return [
            Done(found, started - waiting.submitted, seconds) for waiting, found in zip(batch, features, strict=True)
        ]


def _batchable(item: TowerInput | None) -> bool:
    return item is not None and not item.alone


def choose(tokens: Sequence[int], max_tokens: int) -> list[int]:
    """Which inputs run with the first: those nearest to it in length, as many as fit.

    Args:
        tokens: of each waiting input, in the order of their coming.
    """
    nearest = sorted(range(len(tokens)), key=lambda place: abs(tokens[place] - tokens[0]))
    chosen, longest, total = nearest[:1], tokens[0], tokens[0]
    for place in nearest[1:]:
        longest, total = max(longest, tokens[place]), total + tokens[place]
        padded = longest * (len(chosen) + 1)
        if padded > max_tokens or padded - total > _MOST_PADDING * padded:
            break
        chosen.append(place)
    return chosen
