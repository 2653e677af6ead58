"""One encoder's queue: a free thread takes a queued input, and others that fit, as one batch.

An idle encoder starts at once; inputs that arrive while it runs form the next batch. Image and text of an item are in
the queues of different encoders, so missing modalities never split a batch. Work is dropped once no request waits for
it: an input whose request was cancelled leaves the queue, and a run is stopped with its last request.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import onnxruntime
import structlog

from service.errors import deadline_unreachable, internal, queue_full
from service.inference.fair_share import FairShare
from service.inference.forward import Admission, TowerInput, forward
from service.inference.run_time import RunTime
from service.inference.trunk_cache import TrunkCache
from service.inference.workers import Done
from service.models.head import Vector

_MAX_PADDING = 0.25  # share of a batch's tokens that may be padding
_STUCK_SECONDS = 5.0  # how long a run may take to stop
_PROBE = Admission("", 0)
_log = structlog.get_logger()


@dataclass(eq=False)
class _Run:
    """A batch on a thread."""

    inputs: list[_Queued]
    tokens: int  # padding included
    requests: int  # how many requests still wait for it
    options: onnxruntime.RunOptions = field(default_factory=onnxruntime.RunOptions)
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False
    abandoned: bool = False  # it does not stop, so another thread has replaced its thread


@dataclass(eq=False)
class _Queued:
    input: TowerInput | None  # None: a probe, answered as soon as a thread takes it
    future: Future[Done[list[Vector]]] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    run: _Run | None = None

    @property
    def admission(self) -> Admission:
        return _PROBE if self.input is None else self.input.admission

    @property
    def batchable(self) -> bool:
        return self.input is not None and not self.admission.alone


class Batcher:
    """Threads of one encoder behind a bounded queue.

    Args:
        threads: maximum number of parallel runs.
        batches: maximum number of parallel runs of inputs that may share a run. Such a run uses all cores.
        queue_size: maximum number of waiting inputs. At the limit, a task with fewer inputs than another replaces one.
        max_batch_tokens: maximum number of tokens of a batch, padding included; a longer input runs alone.
        cache: trunk outputs to reuse.
        observe: called with the size of each batch.
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
        self._encoder = encoder
        self._queue_size = queue_size
        self._max_batch_tokens = max_batch_tokens
        self._cache = cache
        self._observe = observe
        self._parallel = threads
        self._changed = threading.Condition()  # guards the attributes below
        self._queue: list[_Queued] = []
        self._runs: list[_Run] = []
        self._fair_share = FairShare()
        self._run_time = RunTime()
        self._idle = threads
        self._batches_left = batches
        self._stuck = 0
        self._closing = False
        self._threads: list[threading.Thread] = []
        for _ in range(threads):
            self._start_thread()

    @property
    def waiting(self) -> int:
        """Number of inputs that no free thread can take."""
        with self._changed:
            return max(0, len(self._queue) - self._free(self._queue[0].batchable)) if self._queue else 0

    def check(self, admission: Admission) -> None:
        """Raises ServiceError `queue_full` or `deadline_unreachable` if an input would be refused now."""
        with self._changed:
            self._input_to_evict(admission)

    async def run(self, item: TowerInput) -> Done[list[Vector]]:
        """Features (P,) of the input in each of its tails.

        Raises:
            ServiceError: `queue_full` when too many inputs wait, `deadline_unreachable` for too late an answer.
        """
        with self._changed:
            evicted = self._input_to_evict(item.admission)
            if evicted is not None:
                self._queue.remove(evicted)
                if evicted.future.set_running_or_notify_cancel():
                    evicted.future.set_exception(queue_full(self._seconds_ahead(item.admission)))
            queued = _Queued(item)
            self._queue.append(queued)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(queued.future)
        except asyncio.CancelledError:
            self._drop(queued)
            raise

    async def probe(self) -> None:
        """Return once a thread has taken an empty job, which goes to the front of the queue."""
        with self._changed:
            queued = _Queued(None)
            self._queue.insert(0, queued)
            self._changed.notify()
        await asyncio.wrap_future(queued.future)

    def close(self) -> None:
        """Finish running batches and drop waiting inputs."""
        with self._changed:
            self._closing = True
            for queued in self._queue:
                queued.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STUCK_SECONDS)

    def _input_to_evict(self, admission: Admission) -> _Queued | None:
        """The newest queued input of the task with the most, or None if there is room.

        Raises:
            ServiceError: `queue_full` or `deadline_unreachable`.
        """
        ahead = self._seconds_ahead(admission)
        if time.perf_counter() + ahead + self._run_time.seconds(admission.tokens) > admission.deadline:
            raise deadline_unreachable(ahead)
        self._queue = [queued for queued in self._queue if not queued.future.cancelled()]
        if len(self._queue) < self._queue_size + self._free(not admission.alone):
            return None
        counts = Counter(queued.admission.task for queued in self._queue if queued.input is not None)
        largest_task, most = counts.most_common(1)[0] if counts else (admission.task, 0)
        if counts[admission.task] + 1 >= most:
            raise queue_full(ahead)
        return next(queued for queued in reversed(self._queue) if queued.admission.task == largest_task)

    def _seconds_ahead(self, admission: Admission) -> float:
        """Expected wait of a new input: the rest of the current runs, and its task's share of the queue."""
        now = time.perf_counter()
        running = sum(max(0.0, self._run_time.seconds(run.tokens) - (now - run.started)) for run in self._runs)
        ahead = [queued.admission for queued in self._queue if not queued.future.cancelled()]
        tokens = sum(other.tokens for other in ahead)
        runs = len(ahead) if admission.alone else math.ceil(tokens / self._max_batch_tokens)
        tasks = len({admission.task, *(other.task for other in ahead)})
        own = sum(other.task == admission.task for other in ahead)
        share = min(1.0, tasks * own / len(ahead)) if ahead else 0.0  # tasks take turns, so a small one waits less
        return (running + share * self._run_time.seconds(tokens, runs)) / (self._parallel if admission.alone else 1)

    def _free(self, batchable: bool) -> int:
        """Number of threads that can take such an input now."""
        return min(self._idle, self._batches_left) if batchable else self._idle

    def _add_free(self, queued: _Queued, change: int) -> None:
        self._idle += change
        if queued.batchable:
            self._batches_left += change
            self._changed.notify()  # an idle thread may be waiting for a batch to end

    def _start_thread(self) -> None:
        name = f"mora-{self._encoder}-{len(self._threads)}"
        self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
        self._threads[-1].start()

    def _work(self) -> None:
        while True:
            try:
                if not self._run_next_batch():
                    return
            except Exception:  # a bug in this class: every queued request gets the error, and the thread continues
                _log.exception("scheduler_failed", encoder=self._encoder)
                with self._changed:
                    failed, self._queue = self._queue, []
                for queued in failed:
                    if queued.future.set_running_or_notify_cancel():
                        queued.future.set_exception(internal())

    def _run_next_batch(self) -> bool:
        """Run one batch and set its results; False when this thread must end.

        An idle thread keeps no reference to a run, since its inputs hold graphs.
        """
        run = self._next()
        if run is None:
            return False
        try:
            outcomes = self._forward(run.inputs, run)
        except Exception:  # a bug in this class; an exception of a graph is an outcome
            _log.exception("scheduler_failed", encoder=self._encoder)
            outcomes = [internal() for _ in run.inputs]
        with self._changed:
            run.finished = True
            self._runs.remove(run)
            if run.abandoned:
                self._stuck -= 1
            else:
                self._add_free(run.inputs[0], +1)  # before the results are set: their clients may send the next request
        for queued, outcome in zip(run.inputs, outcomes, strict=True):
            queued.run = None  # a reference cycle would keep the graphs in memory until it is collected
            if isinstance(outcome, Exception):
                queued.future.set_exception(outcome)
            else:
                queued.future.set_result(outcome)
        return not run.abandoned

    def _next(self) -> _Run | None:
        """Wait for a batch that a request still waits for; None when the encoder closes."""
        with self._changed:
            while True:
                self._queue = [queued for queued in self._queue if not queued.future.cancelled()]
                taken = self._take()
                batch = [queued for queued in taken if queued.future.set_running_or_notify_cancel()]
                if batch:
                    return self._start_run(batch)
                if self._closing:
                    return None
                if not taken:
                    self._changed.wait()

    def _start_run(self, batch: list[_Queued]) -> _Run:
        run = _Run(batch, _padded_tokens(batch), len(batch))
        for queued in batch:
            queued.run = run
            self._fair_share.spend(queued.admission.task, queued.admission.tokens)
        self._runs.append(run)
        self._add_free(batch[0], -1)
        return run

    def _take(self) -> list[_Queued]:
        """Remove a batch from the queue: the oldest input of the task with the least recent use and others that fit."""
        runnable = [queued for queued in self._queue if self._free(queued.batchable)]
        if not runnable:
            return []
        used = {task: self._fair_share.recent_tokens(task) for task in {queued.admission.task for queued in runnable}}
        first = min(runnable, key=lambda queued: used[queued.admission.task])
        if first.input is None or first.admission.alone:
            batch = [first]
        else:
            trunk = first.input.trunk
            others = [queued for queued in self._queue if queued is not first and queued.batchable]
            same_trunk = [first, *(queued for queued in others if queued.input and queued.input.trunk is trunk)]
            chosen = choose([queued.admission.tokens for queued in same_trunk], self._max_batch_tokens)
            batch = [same_trunk[index] for index in chosen]
        self._queue = [queued for queued in self._queue if queued not in batch]
        return batch

    def _forward(self, batch: list[_Queued], run: _Run) -> list[Done[list[Vector]] | Exception]:
        """The outcome of each input. A failing batch runs again in halves, so that only the faulty input fails."""
        inputs = [queued.input for queued in batch if queued.input]
        started = time.perf_counter()
        try:
            features = forward(inputs, self._cache, run.options) if inputs else [[]]
        except Exception as error:  # of any kind: the thread and the other inputs continue
            if len(batch) == 1 or run.options.terminate:
                return [error for _ in batch]
            middle = len(batch) // 2
            return self._forward(batch[:middle], run) + self._forward(batch[middle:], run)
        seconds = time.perf_counter() - started
        if inputs:
            self._observe(len(inputs))
            with self._changed:
                self._run_time.learn(_padded_tokens(batch), seconds)
        return [
            Done(vectors, started - queued.submitted, seconds) for queued, vectors in zip(batch, features, strict=True)
        ]

    def _drop(self, queued: _Queued) -> None:
        """Give up an input whose request was cancelled. A run stops with its last request."""
        with self._changed:
            run = queued.run
            if run is None or run.finished:
                return
            run.requests -= 1
            if run.requests == 0:
                run.options.terminate = True
                asyncio.get_running_loop().call_later(_STUCK_SECONDS, self._abandon, run)

    def _abandon(self, run: _Run) -> None:
        """Replace the thread of a run that does not stop, at most once for each thread, since each holds a core."""
        with self._changed:
            if run.finished or self._closing or self._stuck == self._parallel:
                return
            run.abandoned = True
            self._stuck += 1
            self._add_free(run.inputs[0], +1)
            self._start_thread()
        _log.error("encoder_stuck", encoder=self._encoder, seconds=round(time.perf_counter() - run.started, 1))


def _padded_tokens(batch: Sequence[_Queued]) -> int:
    return len(batch) * max(queued.admission.tokens for queued in batch)


def choose(tokens: Sequence[int], max_tokens: int) -> list[int]:
    """Indices of a batch: the first input, and those closest to it in length, as many as fit.

    Args:
        tokens: length of the first input and of each other queued input, oldest first.
    """
    nearest = sorted(range(len(tokens)), key=lambda index: abs(tokens[index] - tokens[0]))
    chosen, longest, total = nearest[:1], tokens[0], tokens[0]
    for index in nearest[1:]:
        longest, total = max(longest, tokens[index]), total + tokens[index]
        padded = longest * (len(chosen) + 1)
        if padded > max_tokens or padded - total > _MAX_PADDING * padded:
            break
        chosen.append(index)
    return chosen
