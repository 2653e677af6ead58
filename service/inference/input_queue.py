"""One encoder's queue: which inputs it accepts, which it evicts, and which run next. It knows no threads."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import onnxruntime

from service.errors import ServiceError, deadline_unreachable, queue_full
from service.inference.forward import Admission, TowerInput
from service.inference.run_statistics import FairShare, RunTime
from service.inference.workers import Done
from service.models.graphs import Graph
from service.models.head import Vector

_MAX_PADDING = 0.25  # share of a batch's tokens that may be padding


@dataclass(eq=False)
class Run:
    """A batch on a thread."""

    inputs: list[QueuedInput]
    tokens: int  # padding included
    requests: int  # number of requests that wait for it
    options: onnxruntime.RunOptions = field(default_factory=onnxruntime.RunOptions)
    started: float = field(default_factory=time.perf_counter)
    abandoned: bool = False  # it does not stop, so another thread has replaced its thread

    @property
    def trunk(self) -> Graph:
        """The graph of every input."""
        return self.inputs[0].input.trunk


@dataclass(eq=False)
class QueuedInput:
    """An input of an encoder, with the result that its request waits for."""

    input: TowerInput
    future: Future[Done[list[Vector]]] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    run: Run | None = None  # None: it waits in the queue, or its run has ended

    @property
    def admission(self) -> Admission:
        """The properties that the queue decides by."""
        return self.input.admission

    def fail(self, error: Exception) -> None:
        """Answer the request with an error, unless the request was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class InputQueue:
    """The queued inputs of an encoder, oldest first, and its current runs. The caller must hold a lock.

    Args:
        size: maximum number of waiting inputs. At the limit, a task with fewer inputs than another replaces one.
        max_batch_tokens: maximum number of tokens of a batch, padding included; a longer input runs alone.
        parallel: maximum number of parallel runs of inputs that run alone.
        batches: maximum number of parallel runs of inputs that may share a run. Such a run uses all cores.

    Attributes:
        last_progress: when a run last started or ended, or an input came to an idle encoder.
    """

    def __init__(self, size: int, max_batch_tokens: int, parallel: int, batches: int) -> None:
        self.inputs: list[QueuedInput] = []
        self.runs: list[Run] = []
        self.run_times = WeakKeyDictionary[Graph, RunTime]()
        self._size = size
        self._max_batch_tokens = max_batch_tokens
        self.parallel = parallel
        self.batches = batches
        self._fair_share = FairShare()
        self._refused_since: float | None = None  # time of the first refusal since the last admission
        self._last_refused = -math.inf
        self.last_progress = -math.inf

    def drop_cancelled(self) -> None:
        """Remove the inputs whose requests were cancelled."""
        self.inputs = [queued for queued in self.inputs if not queued.future.cancelled()]

    def input_to_evict(self, trunk: Graph, admission: Admission, free: int) -> QueuedInput | None:
        """The queued input that a new one replaces: the newest of the task with the most; None if the queue has room.

        Raises ServiceError `queue_full` or `deadline_unreachable`.

        Args:
            trunk: the graph that the new input runs through first.
            free: number of threads that can take the new input now.
        """
        self.drop_cancelled()
        ahead = self.seconds_ahead(admission)
        own = self._run_time(trunk).seconds(admission.tokens)
        if (self.inputs or self.runs) and time.perf_counter() + ahead + own > admission.deadline:
            raise self._refusing(deadline_unreachable(ahead))
        if len(self.inputs) < self._size + free:
            return None
        counts = Counter(queued.admission.task for queued in self.inputs)
        largest_task, most = counts.most_common(1)[0] if counts else (admission.task, 0)
        if counts[admission.task] + 1 >= most:
            raise self._refusing(queue_full(ahead))
        return next(queued for queued in reversed(self.inputs) if queued.admission.task == largest_task)

    def seconds_ahead(self, admission: Admission) -> float:
        """Expected wait of a new input: the rest of the current runs, and its task's share of the queue."""
        now = time.perf_counter()
        expected = [(run.started, self._run_time(run.trunk).seconds(run.tokens)) for run in self.runs]
        running = sum(max(0.0, started + seconds - now) for started, seconds in expected)
        ahead = [queued for queued in self.inputs if not queued.future.cancelled()]
        by_trunk: dict[Graph, list[Admission]] = {}
        for queued in ahead:
            by_trunk.setdefault(queued.input.trunk, []).append(queued.admission)
        waiting = sum(self._seconds(trunk, admissions) for trunk, admissions in by_trunk.items())
        tasks = len({admission.task, *(other.admission.task for other in ahead)})
        own = sum(other.admission.task == admission.task for other in ahead)
        share = min(1.0, tasks * own / len(ahead)) if ahead else 0.0  # tasks take turns, so a small one waits less
        return (running + share * waiting) / (self.parallel if admission.alone else self.batches)

    def take(self, free: Callable[[bool], int]) -> list[QueuedInput]:
        """Remove the next batch: the oldest input of the task with the least recent use, and others that fit.

        Args:
            free: number of threads that can take an input now; True for an input that runs alone.
        """
        runnable = [queued for queued in self.inputs if free(queued.admission.alone)]
        if not runnable:
            return []
        used = {task: self._fair_share.recent_tokens(task) for task in {queued.admission.task for queued in runnable}}
        first = min(runnable, key=lambda queued: used[queued.admission.task])
        batch = [first]
        if not first.admission.alone:
            others = [queued for queued in self.inputs if queued is not first and not queued.admission.alone]
            same_trunk = [first, *(queued for queued in others if queued.input.trunk is first.input.trunk)]
            chosen = choose([queued.admission.tokens for queued in same_trunk], self._max_batch_tokens)
            batch = [same_trunk[index] for index in chosen]
        self.inputs = [queued for queued in self.inputs if queued not in batch]
        return batch

    def add(self, queued: QueuedInput) -> None:
        """Append an input that `input_to_evict` has admitted."""
        if not self.inputs and not self.runs:
            self.last_progress = queued.submitted
        self.inputs.append(queued)
        self._refused_since = None

    def start(self, batch: list[QueuedInput]) -> Run:
        """The run of a batch, counted in its tasks' recent use."""
        run = Run(batch, padded_tokens(batch), len(batch))
        self.last_progress = run.started
        self.runs.append(run)
        for queued in batch:
            queued.run = run
            self._fair_share.spend(queued.admission.task, queued.admission.tokens)
        return run

    def end(self, run: Run) -> None:
        """Forget a run. Otherwise a reference cycle would keep its graphs in memory until it is collected."""
        self.runs.remove(run)
        self.last_progress = time.perf_counter()
        for queued in run.inputs:
            queued.run = None

    def learn(self, batch: Sequence[QueuedInput], seconds: float) -> None:
        """Remember the time of a run that has just ended."""
        self._run_time(batch[0].input.trunk).learn(padded_tokens(batch), seconds)

    def refuses_everything(self, seconds: float) -> bool:
        """Whether inputs came in the last `seconds` and before, and none was admitted since."""
        since, last = self._refused_since, self._last_refused
        return since is not None and last - since > seconds and time.perf_counter() - last < seconds

    def _refusing(self, error: ServiceError) -> ServiceError:
        self._last_refused = time.perf_counter()
        if self._refused_since is None:
            self._refused_since = self._last_refused
        return error

    def _run_time(self, trunk: Graph) -> RunTime:
        return self.run_times.setdefault(trunk, RunTime())

    def _seconds(self, trunk: Graph, admissions: Sequence[Admission]) -> float:
        """Expected seconds of the waiting inputs of a trunk."""
        shared = sum(each.tokens for each in admissions if not each.alone)
        runs = sum(each.alone for each in admissions) + math.ceil(shared / self._max_batch_tokens)
        return self._run_time(trunk).seconds(sum(each.tokens for each in admissions), runs)


def padded_tokens(batch: Sequence[QueuedInput]) -> int:
    """The tokens of a batch, padding included."""
    return len(batch) * max(queued.admission.tokens for queued in batch)


def choose(tokens: Sequence[int], max_tokens: int) -> list[int]:
    """Indices of a batch: the first input, and as many of those closest to it in length as fit.

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
