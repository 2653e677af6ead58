"""The form of log lines. Hostile requests are in tests/faults/protocol/test_logs.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

EVENTS = """
import logging, sys, threading, warnings
import structlog
from service.settings import Settings
from service.telemetry.logs import configure_logging

configure_logging(Settings(log_format=sys.argv[1], log_level="warning"))
log = structlog.get_logger()
log.info("too_minor")
with structlog.contextvars.bound_contextvars(trace_id="t1"):
    log.warning("ours", task="fruit")
logging.getLogger("library").error("theirs")
warnings.warn("a warning")

def die():
    secret = "hunter2"
    raise ZeroDivisionError("died")

thread = threading.Thread(target=die, name="mora-text-0")
thread.start()
thread.join()
"""


def lines(log_format: str) -> list[str]:
    command = [sys.executable, "-c", EVENTS, log_format]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr.splitlines()


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_without_a_terminal_every_event_is_one_json_object(log_format):
    ours, theirs, warning, thread = map(json.loads, lines(log_format))

    assert (ours["event"], ours["task"], ours["trace_id"], ours["level"]) == ("ours", "fruit", "t1", "warning")
    assert (theirs["event"], theirs["level"]) == ("theirs", "error")
    assert "a warning" in warning["event"]
    assert (thread["event"], thread["thread"], thread["level"]) == ("thread_died", "mora-text-0", "critical")
    assert "ZeroDivisionError: died" in thread["exception"]
    assert {"timestamp"} <= ours.keys() & theirs.keys() & thread.keys()


def test_a_console_shows_no_local_variables():
    shown = "\n".join(lines("console"))

    assert "ZeroDivisionError: died" in shown
    assert "hunter2" not in shown.replace('secret = "hunter2"', "")
    assert "too_minor" not in shown


def test_a_second_configuration_reaches_loggers_that_have_logged():
    again = """
configure_logging(Settings(log_format="json"))
with structlog.testing.capture_logs() as events:
    log.error("again")
print([event["event"] for event in events])
"""
    command = [sys.executable, "-c", EVENTS + again, "console"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "['again']"
