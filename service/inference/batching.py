"""One encoder's threads: a free thread takes a queued input, and others that fit, as one batch.

An idle encoder starts at once; inputs that arrive while it runs form the next batch. The image and the text of an item
wait in the queues of different encoders, so missing modalities never split a batch. Work is dropped once no request
waits for it: an input whose request was cancelled leaves the queue, and a run stops with its last request.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import structlog

from service.errors import internal, queue_full
from service.inference.forward import Admission, TowerInput, forward
from service.inference.input_queue import InputQueue, QueuedInput, Run
from service.inference.trunk_cache import TrunkCache
from service.inference.workers import Done
from service.models.graphs import Graph
from service.models.head import Vector

_STUCK_SECONDS = 5.0  # time limit for a run to stop
_log = structlog.get_logger()


class Batcher:
    """Threads of one encoder behind a bounded queue, as many as the queue's `parallel`.

    Args:
        cache: trunk outputs to reuse.
        observe: called with the size of each batch.
    """

    def __init__(self, encoder: str, queue: InputQueue, cache: TrunkCache, observe: Callable[[int], None]) -> None:
        self._encoder = encoder
        self._cache = cache
        self._observe = observe
        self._changed = threading.Condition()  # guards the attributes below
        self._queue = queue
        self._idle = queue.parallel
        self._batches_left = queue.batches
        self._stuck = 0
        self._closing = False
        self._threads: list[threading.Thread] = []
        for _ in range(queue.parallel):
            self._start_thread()

    @property
    def waiting(self) -> int:
        """Number of inputs that no free thread can take."""
        with self._changed:
            self._queue.drop_cancelled()
            inputs = self._queue.inputs
            return max(0, len(inputs) - self._free(inputs[0].admission.alone)) if inputs else 0

    def check(self, trunk: Graph, admission: Admission) -> None:
        """Raises ServiceError `queue_full` or `deadline_unreachable` if an input would be refused now."""
        with self._changed:
            self._queue.input_to_evict(trunk, admission, self._free(admission.alone))

    async def run(self, item: TowerInput) -> Done[list[Vector]]:
        """Features (P,) of the input in each of its tails. Raises the errors of `check`."""
        with self._changed:
            evicted = self._queue.input_to_evict(item.trunk, item.admission, self._free(item.admission.alone))
            if evicted is not None:
                self._queue.inputs.remove(evicted)
                evicted.fail(queue_full(self._queue.seconds_ahead(item.admission)))
            queued = QueuedInput(item)
            self._queue.add(queued)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(queued.future)
        except asyncio.CancelledError:
            self._drop(queued)
            raise

    def is_stalled(self, seconds: float) -> bool:
        """Whether for so long inputs waited or ran, and no run started or ended."""
        with self._changed:
            busy = self._queue.inputs or any(not run.abandoned for run in self._queue.runs)
            return bool(busy) and time.perf_counter() - self._queue.last_progress > seconds

    def refuses_everything(self, seconds: float) -> bool:
        """Whether for so long every input was refused."""
        with self._changed:
            return self._queue.refuses_everything(seconds)

    def close(self) -> None:
        """Finish running batches and drop waiting inputs."""
        with self._changed:
            self._closing = True
            for queued in self._queue.inputs:
                queued.future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STUCK_SECONDS)

    def _free(self, alone: bool) -> int:
        """Number of threads that can take an input now, which may share a run unless it runs alone."""
        return self._idle if alone else min(self._idle, self._batches_left)

    def _release(self, run: Run) -> None:
        self._idle += 1
        if not run.inputs[0].admission.alone:
            self._batches_left += 1
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
                    failed, self._queue.inputs = self._queue.inputs, []
                for queued in failed:
                    queued.fail(internal())

    def _run_next_batch(self) -> bool:
        """Run one batch and set its results; False if this thread must end.

        The batch is a local variable here, so that an idle thread keeps no graphs in memory.
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
            self._queue.end(run)
            if run.abandoned:
                self._stuck -= 1
            else:
                self._release(run)  # before the clients get their answers and send the next request
        for queued, outcome in zip(run.inputs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                queued.future.set_exception(outcome)
            else:
                queued.future.set_result(outcome)
        return not run.abandoned

    def _next(self) -> Run | None:
        """Start the next batch, without inputs whose requests were cancelled; None when the encoder closes."""
        with self._changed:
            while True:
                self._queue.drop_cancelled()
                taken = self._queue.take(self._free)
                batch = [queued for queued in taken if queued.future.set_running_or_notify_cancel()]
                if batch:
                    run = self._queue.start(batch)
                    self._idle -= 1
                    if not batch[0].admission.alone:
                        self._batches_left -= 1
                    return run
                if self._closing:
                    return None
                if not taken:
                    self._changed.wait()

    def _forward(self, batch: list[QueuedInput], run: Run) -> list[Done[list[Vector]] | Exception]:
        """The outcome of each input. A failing batch runs again in halves, so that only the faulty input fails."""
        inputs = [queued.input for queued in batch]
        started = time.perf_counter()
        try:
            features = forward(inputs, self._cache, run.options)
        except Exception as error:  # of any kind: the thread and the other inputs continue
            if len(batch) == 1 or run.options.terminate:
                return [error for _ in batch]
            middle = len(batch) // 2
            return self._forward(batch[:middle], run) + self._forward(batch[middle:], run)
        seconds = time.perf_counter() - started
        self._observe(len(inputs))
        with self._changed:
            self._queue.learn(batch, seconds)
        return [
            Done(vectors, started - queued.submitted, seconds) for queued, vectors in zip(batch, features, strict=True)
        ]

    def _drop(self, queued: QueuedInput) -> None:
        """Give up an input whose request was cancelled. A run stops with its last request."""
        with self._changed:
            run = queued.run
            if run is None:
                return
            run.requests -= 1
            if not run.requests:
                run.options.terminate = True
                asyncio.get_running_loop().call_later(_STUCK_SECONDS, self._abandon, run)

    def _abandon(self, run: Run) -> None:
        """Replace the thread of a run that does not stop. Each stuck run holds a core, so their number is limited."""
        with self._changed:
            if run not in self._queue.runs or self._closing or self._stuck == self._queue.parallel:
                return
            run.abandoned = True
            self._stuck += 1
            self._release(run)
            self._start_thread()
        _log.error("encoder_stuck", encoder=self._encoder, seconds=round(time.perf_counter() - run.started, 1))
