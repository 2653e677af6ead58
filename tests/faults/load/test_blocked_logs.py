"""Standard error that takes no lines: a pipe that nobody reads, or that is closed."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.faults.asking import scrape
from tests.support.faults.raw_http import classify, connect, read_answer, request
from tests.support.sampling import each

ANSWER_SECONDS = 5.0
DRAIN = {"drain_delay_seconds": 0.5, "drain_seconds": 5}
DROPPED = "mora_log_lines_dropped_total"


def answered(port: int, data: bytes, count: int) -> int:
    """How many of so many requests on one connection are answered 200, up to the first that is not."""
    with connect(port) as connection:
        connection.settimeout(ANSWER_SECONDS)
        for number in range(count):
            connection.sendall(data)
            try:
                status = read_answer(connection)[0]
            except TimeoutError:
                return number
            if status != 200:
                return number
    return count


def seconds_to_exit(running) -> float:
    started = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=60) == 0
    return time.monotonic() - started


UNREAD = {
    "not read": {},
    "not read, on a console at debug": {"log_format": "console", "log_level": "debug"},
    "closed": {},
}


@pytest.mark.parametrize("state", each(UNREAD, tried=["not read", "closed"]))
@pytest.mark.slow
def test_requests_and_probes_are_answered_while_the_log_is(state, shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, reads_log=False, **DRAIN, **UNREAD[state])
    number = counts(300, 20_000)
    if state == "closed":
        running.process.stderr.close()

    requests = answered(running.port, classify("red"), number)
    probes = answered(running.port, request("GET", "/livez"), 100)
    dropped = scrape(f"{running.base}/metrics")[DROPPED]
    seconds = seconds_to_exit(running)

    reliability(
        f"{number} requests, then SIGTERM, while standard error is {state}",
        f"all answered, 100 of 100 probes, ended within {DRAIN['drain_seconds']} s",
        f"{requests} and {probes} answered, {dropped:.0f} lines dropped, ended after {seconds:.1f} s",
        (requests, probes) == (number, 100) and seconds <= DRAIN["drain_seconds"] + 1,
    )


def test_control_a_service_that_writes_its_log_itself_is_found(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="logs_directly", reads_log=False, **DRAIN)

    requests = answered(running.port, classify("red"), 500)

    reliability(
        "*control*: 500 requests to a service that writes log lines on the event loop, standard error not read",
        "found",
        f"{requests} answered",
        requests < 500,
    )
