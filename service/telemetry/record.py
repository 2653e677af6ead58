"""The record of one request, for its log line, its headers and the metrics."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from model_store import Pattern
from service.api.answers import Latency

CLIENT_GONE = 499  # in the log and the metrics only, because the client has disconnected
SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # a client's request id that is safe in a header and a log line


class Stage(StrEnum):
    """A stage of a request. `queue` sums its waits for a thread; of the two encoders' waits, only the longer one."""

    DECODE = "decode"
    TOKENIZE = "tokenize"
    QUEUE = "queue"
    IMAGE_ENCODER = "image_encoder"
    TEXT_ENCODER = "text_encoder"
    HEAD = "head"
    TOTAL = "total"


class StageRun(NamedTuple):
    """One run of a stage; a request for several items has many runs of each."""

    stage: Stage
    started: float  # by time.perf_counter()
    seconds: float


class CountedCell(NamedTuple):
    """One answer or problem of a batch, as the metrics count it."""

    task: str
    modalities: str
    status: int
    problem: str | None  # the reason in mora_rejected_total


@dataclass
class RequestRecord:
    """The facts of a request, added while it is answered: `task`, `version` and `pattern` once the model is known."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.perf_counter)
    task: str = ""
    version: int | None = None
    pattern: Pattern | None = None
    deadline: float = math.inf  # of time.perf_counter
    client: str | None = None  # the name of its API key
    allowed_tasks: frozenset[str] | None = None  # by its API key; None: all
    problem: str | None = None  # the reason in mora_rejected_total
    stage_seconds: dict[Stage, float] = field(default_factory=dict)
    runs: list[StageRun] = field(default_factory=list)  # in the order of their end
    answers: int = 1  # that the request asks for; more than one for a batch
    cells: Counter[CountedCell] = field(default_factory=Counter)  # of a batch that was answered

    def counted(self, status: int) -> Counter[CountedCell]:
        """What the metrics count of the request.

        A batch counts as its cells, also if all of them fail together. It counts once if it is refused for its content.
        """
        if self.cells and status == HTTPStatus.OK:
            return self.cells
        number = self.answers if status >= CLIENT_GONE else 1
        return Counter({CountedCell(self.task, self.pattern or "", status, self.problem): number})

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.started

    def allow(self, milliseconds: float) -> None:
        """Set the deadline, counted from the request's arrival."""
        self.deadline = self.started + milliseconds / 1000

    def allows(self, task: str) -> bool:
        """Whether the client may use a task."""
        return self.allowed_tasks is None or task in self.allowed_tasks

    def add(self, stage: Stage, seconds: float, started: float | None = None) -> None:
        """Add a run of a stage. `started` is by time.perf_counter(); by default the run ends now."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds
        self.runs.append(StageRun(stage, time.perf_counter() - seconds if started is None else started, seconds))

    def finish(self) -> Latency:
        """Set the total time, once the answer is complete. Returns the times that the answer shows."""
        self.stage_seconds[Stage.TOTAL] = self.elapsed_seconds
        return Latency(**self.milliseconds())

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds of every stage, rounded to microseconds; exactly 0.0 for a stage that did not run."""
        return {stage.value: round(self.stage_seconds.get(stage, 0.0) * 1000, 3) for stage in Stage}
