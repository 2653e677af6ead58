"""What every thread and every asyncio task of this process does at the moment, for the log."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType

import structlog

_log = structlog.get_logger()


def log_stacks(loop: asyncio.AbstractEventLoop | None) -> None:
    """Log a line for each thread, and one for each task of `loop`, which may run in another thread.

    The lines have the level `error`, so that they are shown at every `MORA_LOG_LEVEL`.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        frames = [each for each, _ in traceback.walk_stack(frame)]
        _log.error("stack", thread=names.get(ident, str(ident)), stack=_described(reversed(frames)))
    for task in asyncio.all_tasks(loop) if loop is not None else ():
        _log.error("stack", task=task.get_name(), stack=_described(_frames(task)))


def _described(frames: Iterable[FrameType]) -> list[str]:
    """File, line and function of each frame, the innermost last."""
    return [f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}" for frame in frames]


def _frames(task: asyncio.Task[object]) -> Iterator[FrameType]:
    """The frames of the coroutines and generators that wait for each other in a task."""
    waiting: object = task.get_coro()
    while waiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), None)
        if kind is None:
            return
        if (frame := getattr(waiting, f"{kind}_frame")) is not None:
            yield frame
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
