"""What is known about one request while it is answered: for its log line, its headers and the metrics."""

from __future__ import annotations

import math
import re
import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from model_store import Pattern

SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")  # what a client may call its request in a header and a log line


class Stage(StrEnum):
    """A part of answering a request; `queue` is every wait for a thread, the longer one of the two encoders' waits."""

    DECODE = "decode"
    TOKENIZE = "tokenize"
    QUEUE = "queue"
    IMAGE_ENCODER = "image_encoder"
    TEXT_ENCODER = "text_encoder"
    HEAD = "head"
    TOTAL = "total"


class StageRun(NamedTuple):
    """One piece of work or waiting; a request for several items has many of a stage."""

    stage: Stage
    started: float  # by time.perf_counter()
    seconds: float


@dataclass
class RequestRecord:
    """Filled in by whoever learns it; `task`, `version` and `pattern` stay empty until they are known to exist."""

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: float = field(default_factory=time.perf_counter)
    task: str = ""
    version: int | None = None
    pattern: Pattern | None = None
    deadline: float = math.inf  # of time.perf_counter
    client: str | None = None  # the name of its key
    problem: str | None = None  # a reason of mora_rejected_total
    stage_seconds: dict[Stage, float] = field(default_factory=dict)
    runs: list[StageRun] = field(default_factory=list)  # in the order they were reported

    @property
    def elapsed_seconds(self) -> float:
        """Since the request arrived."""
        return time.perf_counter() - self.started

    def allow(self, milliseconds: int) -> None:
        """Set how long the request may take, from its arrival."""
        self.deadline = self.started + milliseconds / 1000

    def add(self, stage: Stage, seconds: float, started: float | None = None) -> None:
        """Count time towards a stage; `started` is by time.perf_counter(), left out for what has just ended."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds
        self.runs.append(StageRun(stage, time.perf_counter() - seconds if started is None else started, seconds))

    def finish(self) -> None:
        """Set the total: the answer is there."""
        self.stage_seconds[Stage.TOTAL] = self.elapsed_seconds

    def milliseconds(self) -> dict[str, float]:
        """Every stage, to the microsecond; exactly 0.0 for one that did not run."""
        return {stage.value: round(self.stage_seconds.get(stage, 0.0) * 1000, 3) for stage in Stage}
