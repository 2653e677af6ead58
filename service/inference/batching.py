"""One encoder's queue: a thread that is free takes an input and those that go well with it, as one batch.

Nothing waits for company: an idle encoder starts at once, and what arrives while it runs is the next batch. Presence
never splits a batch, since an item's image and its text are in the queues of different encoders. Nobody's work is run
for nobody: who gives up (its deadline passed, its client left) is dropped from the queue, and a run that nobody waits
for any more is stopped.
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

_MOST_PADDING = 0.25  # share of a batch's tokens that may be padding
_STUCK_SECONDS = 5.0  # how long a run may take to stop
_PROBE = Admission("", 0)
_log = structlog.get_logger()


@dataclass(eq=False)
class _Run:
    """A batch on a thread."""

    waiting: list[_Waiting]
    tokens: int  # padding included
    wanted: int  # how many still wait for it
    options: onnxruntime.RunOptions = field(default_factory=onnxruntime.RunOptions)
    started: float = field(default_factory=time.perf_counter)
    finished: bool = False
    abandoned: bool = False  # it does not stop: another thread has its place


@dataclass(eq=False)
class _Waiting:
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
        threads: runs at the same time.
        batches: how many of those may be of inputs that share runs; one that fills the cores leaves nothing to others.
        queue_size: how many inputs may wait. When that many do, a task with less than others still finds room.
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
        self._encoder = encoder
        self._queue_size = queue_size
        self._max_batch_tokens = max_batch_tokens
        self._cache = cache
        self._observe = observe
        self._parallel = threads
        self._changed = threading.Condition()  # guards what follows
        self._queue: list[_Waiting] = []
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
        """Inputs that no thread is free to take."""
        with self._changed:
            return max(0, len(self._queue) - self._free(self._queue[0].batchable)) if self._queue else 0

    def check(self, admission: Admission) -> None:
        """Whether an input would be taken now. Raises ServiceError `queue_full` or `deadline_unreachable`."""
        with self._changed:
            self._room_for(admission)

    async def run(self, item: TowerInput) -> Done[list[Vector]]:
        """Features (P,) of each of the input's tails.

        Raises:
            ServiceError: `queue_full` when too many wait, `deadline_unreachable` when it would come too late.
        """
        with self._changed:
            makes_room = self._room_for(item.admission)
            if makes_room is not None:
                self._queue.remove(makes_room)
                if makes_room.future.set_running_or_notify_cancel():
                    makes_room.future.set_exception(queue_full(self._seconds_ahead(item.admission)))
            waiting = _Waiting(item)
            self._queue.append(waiting)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(waiting.future)
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise

    async def probe(self) -> None:
        """Return once a thread is free to take a job, before all that wait."""
        with self._changed:
            waiting = _Waiting(None)
            self._queue.insert(0, waiting)
            self._changed.notify()
        await asyncio.wrap_future(waiting.future)

    def close(self) -> None:
        """Finish what runs, drop what waits."""
        with self._changed:
            self._closing = True
            for waiting in self._queue:
                waiting.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STUCK_SECONDS)

    def _room_for(self, admission: Admission) -> _Waiting | None:
        """Who must go for it: the newest of the task that waits for most; None when there is room as it is."""
        ahead = self._seconds_ahead(admission)
        if time.perf_counter() + ahead + self._run_time.seconds(admission.tokens) > admission.deadline:
            raise deadline_unreachable(ahead)
        self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]
        if len(self._queue) < self._queue_size + self._free(not admission.alone):
            return None
        counts = Counter(waiting.admission.task for waiting in self._queue if waiting.input is not None)
        greedy, most = counts.most_common(1)[0] if counts else (admission.task, 0)
        if counts[admission.task] + 1 >= most:
            raise queue_full(ahead)
        return next(waiting for waiting in reversed(self._queue) if waiting.admission.task == greedy)

    def _seconds_ahead(self, admission: Admission) -> float:
        """How long it would wait: for what runs, and for its share of what waits."""
        now = time.perf_counter()
        running = sum(max(0.0, self._run_time.seconds(run.tokens) - (now - run.started)) for run in self._runs)
        ahead = [waiting.admission for waiting in self._queue if not waiting.future.cancelled()]
        tokens = sum(other.tokens for other in ahead)
        runs = len(ahead) if admission.alone else math.ceil(tokens / self._max_batch_tokens)
        tasks = len({admission.task, *(other.task for other in ahead)})
        own = sum(other.task == admission.task for other in ahead)
        share = min(1.0, tasks * own / len(ahead)) if ahead else 0.0  # in turns, a modest task does not wait for all
        return (running + share * self._run_time.seconds(tokens, runs)) / (self._parallel if admission.alone else 1)

    def _free(self, batchable: bool) -> int:
        """How many threads would take such an input at once."""
        return min(self._idle, self._batches_left) if batchable else self._idle

    def _count(self, waiting: _Waiting, change: int) -> None:
        self._idle += change
        if waiting.batchable:
            self._batches_left += change
            self._changed.notify()  # a thread may wait for this alone

    def _start_thread(self) -> None:
        name = f"mora-{self._encoder}-{len(self._threads)}"
        self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
        self._threads[-1].start()

    def _work(self) -> None:
        while True:
            try:
                if not self._answer_some():
                    return
            except Exception:  # a fault of ours: whoever waits hears of it, and the thread goes on
                _log.exception("scheduler_failed", encoder=self._encoder)
                with self._changed:
                    failed, self._queue = self._queue, []
                for waiting in failed:
                    if waiting.future.set_running_or_notify_cancel():
                        waiting.future.set_exception(internal())

    def _answer_some(self) -> bool:
        """Run one batch and tell who waits; False when this thread has no more to do. An idle thread holds nothing."""
        run = self._next()
        if run is None:
            return False
        try:
            outcomes = self._run(run.waiting, run)
        except Exception:  # a fault of ours; what a graph raises is an outcome
            _log.exception("scheduler_failed", encoder=self._encoder)
            outcomes = [internal() for _ in run.waiting]
        with self._changed:
            run.finished = True
            self._runs.remove(run)
            if run.abandoned:
                self._stuck -= 1
            else:
                self._count(run.waiting[0], +1)  # before anyone hears of it, who may then ask again
        for waiting, outcome in zip(run.waiting, outcomes, strict=True):
            waiting.run = None  # it holds graphs, whose memory would wait for the cycle to be found
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)
        return not run.abandoned

    def _next(self) -> _Run | None:
        """Wait for a batch that somebody still wants; None when there will be none."""
        with self._changed:
            while True:
                self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]
                taken = self._take()
                batch = [waiting for waiting in taken if waiting.future.set_running_or_notify_cancel()]
                if batch:
                    return self._begin(batch)
                if self._closing:
                    return None
                if not taken:
                    self._changed.wait()

    def _begin(self, batch: list[_Waiting]) -> _Run:
        run = _Run(batch, len(batch) * max(waiting.admission.tokens for waiting in batch), len(batch))
        for waiting in batch:
            waiting.run = run
            self._fair_share.spend(waiting.admission.task, waiting.admission.tokens)
        self._runs.append(run)
        self._count(batch[0], -1)
        return run

    def _take(self) -> list[_Waiting]:
        """The oldest input, of the task whose turn it is, that may run now, with its company; empty: there is none."""
        able = [waiting for waiting in self._queue if self._free(waiting.batchable)]
        if not able:
            return []
        had = {task: self._fair_share.recent_tokens(task) for task in {waiting.admission.task for waiting in able}}
        first = min(able, key=lambda waiting: had[waiting.admission.task])
        if first.input is None or first.admission.alone:
            batch = [first]
        else:
            trunk = first.input.trunk
            others = [waiting for waiting in self._queue if waiting is not first and waiting.batchable]
            like = [first, *(waiting for waiting in others if waiting.input and waiting.input.trunk is trunk)]
            chosen = choose([waiting.admission.tokens for waiting in like], self._max_batch_tokens)
            batch = [like[place] for place in chosen]
        self._queue = [waiting for waiting in self._queue if waiting not in batch]
        return batch

    def _run(self, batch: list[_Waiting], run: _Run) -> list[Done[list[Vector]] | Exception]:
        """What became of each. A batch that fails is run again in halves, so that only the input at fault fails."""
        inputs = [waiting.input for waiting in batch if waiting.input]
        started = time.perf_counter()
        try:
            features = forward(inputs, self._cache, run.options) if inputs else [[]]
        except Exception as error:  # whatever a graph raises, the thread and the neighbours go on
            if len(batch) == 1 or run.options.terminate:
                return [error for _ in batch]
            middle = len(batch) // 2
            return self._run(batch[:middle], run) + self._run(batch[middle:], run)
        seconds = time.perf_counter() - started
        if inputs:
            self._observe(len(inputs))
            with self._changed:
                self._run_time.learn(len(batch) * max(waiting.admission.tokens for waiting in batch), seconds)
        return [
            Done(found, started - waiting.submitted, seconds) for waiting, found in zip(batch, features, strict=True)
        ]

    def _give_up(self, waiting: _Waiting) -> None:
        """Its answer is wanted no more. The last one who wanted a run stops it."""
        with self._changed:
            run = waiting.run
            if run is None or run.finished:
                return
            run.wanted -= 1
            if run.wanted == 0:
                run.options.terminate = True
                asyncio.get_running_loop().call_later(_STUCK_SECONDS, self._abandon, run)

    def _abandon(self, run: _Run) -> None:
        """Put another thread in the place of one whose run does not stop; not for ever, since each holds a core."""
        with self._changed:
            if run.finished or self._closing or self._stuck == self._parallel:
                return
            run.abandoned = True
            self._stuck += 1
            self._count(run.waiting[0], +1)
            self._start_thread()
        _log.error("encoder_stuck", encoder=self._encoder, seconds=round(time.perf_counter() - run.started, 1))


def choose(tokens: Sequence[int], max_tokens: int) -> list[int]:
    """Which inputs run with the first: those nearest to it in length, as many as fit.

    Args:
        tokens: of the first input and of each that waits, in the order of their coming.
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
