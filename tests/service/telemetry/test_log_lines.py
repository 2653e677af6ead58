"""Standard error that takes no lines: logging goes on, the lost lines are counted, and the process ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.telemetry.log_lines import LogLines
from tests.support.sampling import each

MAX_LINES = 1_500  # more than fit into a pipe; fewer than the 4,096 of the service take less time
LINES = 3 * MAX_LINES
PIPE_LINES = 65_536 // 80  # at most in the pipe; a line is longer
FLOOD = f"""
import sys
import structlog
import service.telemetry.log_lines
from service.settings import Settings
from service.telemetry.logs import configure_logging
from service.telemetry.metrics import Metrics

service.telemetry.log_lines.MAX_LINES = {MAX_LINES}
configure_logging(Settings(log_format="json"))
log = structlog.get_logger()
for number in range(int(sys.argv[1])):
    log.info("an_event", number=number, text=eval(sys.argv[2]))
metrics = Metrics().render().decode().splitlines()
print(next(line.split()[1] for line in metrics if line.startswith("mora_log_lines_dropped_total")), flush=True)
sys.stdin.readline()
"""


@contextmanager
def flooding(stderr: int, text: str = "'short'") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has logged LINES lines and waits for its standard input to end; how many lines it dropped."""
    command = [sys.executable, "-c", FLOOD, str(LINES), text]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
    os.close(stderr)
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        yield process, int(float(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


@pytest.mark.parametrize("text", ["'short'", "'long' * 500", r"'a\nb\x00\x1b[31m\u2028\ud800'"], ids=str.split)
@pytest.mark.parametrize("is_blocking", [True, False], ids=["blocking", "non-blocking"])
@pytest.mark.slow
def test_lines_that_wait_for_a_reader_are_written_whole_and_in_order_the_rest_is_counted(text, is_blocking):
    reading, writing = os.pipe()
    os.set_blocking(writing, is_blocking)  # for all processes that share the pipe
    numbers, reported = [], 0

    with flooding(writing, text) as (_, dropped), os.fdopen(reading, encoding="utf-8") as log:
        for event in map(json.loads, log):
            if event["event"] == "log_lines_dropped":
                reported = event["lines"]
                break
            numbers.append(event["number"])

    assert numbers == sorted(set(numbers))
    assert len(numbers) + dropped == LINES
    assert reported == dropped > 0


def unread_pipe(folder: Path) -> int:
    os.mkfifo(folder / "pipe")
    return os.open(folder / "pipe", os.O_RDWR)  # of which the process has both ends, and reads neither


def closed_pipe(_: Path) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_disk(_: Path) -> int:
    return os.open("/dev/full", os.O_WRONLY)


def file_that_cannot_be_written(folder: Path) -> int:
    (folder / "file").touch()
    return os.open(folder / "file", os.O_RDONLY)


@pytest.mark.parametrize(
    "target", each([unread_pipe, closed_pipe, full_disk, file_that_cannot_be_written], tried=[unread_pipe, full_disk])
)
@pytest.mark.slow
def test_a_process_whose_lines_cannot_be_written_goes_on_counts_them_and_ends(target, tmp_path):
    with flooding(target(tmp_path)) as (_, dropped):
        assert LINES - MAX_LINES - PIPE_LINES <= dropped <= LINES


OPENS = """
import os
os.dup2(os.open("file", os.O_RDWR | os.O_CREAT), 2)
"""


def test_standard_error_that_is_closed_at_start_is_not_written_to(tmp_path):
    """Its number may belong to any file that the process opens later."""
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", OPENS + FLOOD, "10", "0"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=tmp_path, timeout=60, check=True
    )

    assert float(done.stdout) <= 10
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("errors", [0, 1, 3])
def test_a_call_that_fails_does_not_end_the_thread_that_writes(events, errors):
    lines, called = LogLines(), threading.Event()

    def fail() -> None:
        raise RuntimeError("the set changed its size")

    for _ in range(errors):
        lines.call(fail)
    lines.call(called.set)

    assert called.wait(60)
    assert [event["event"] for event in events] == ["call_failed"] * errors
    lines.close()
