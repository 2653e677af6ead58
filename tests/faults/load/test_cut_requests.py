"""Requests that are not answered when the drain ends, and those that are just in time."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.faults.planted import SLOW_SECONDS, SLOW_WORD
from tests.support.faults.raw_http import classify, connect, events_named, is_closed, read_answer, request
from tests.support.problem_code import code_of
from tests.support.sampling import each
from tests.support.waiting import eventually

EXIT_SECONDS = 20
DRAIN = {"drain_delay_seconds": 0, "drain_seconds": 3}
PATIENT = {"header_seconds": 60, "body_idle_seconds": 60, "body_seconds": 60}
INFER = request(
    "POST",
    "/v2/models/fruit/infer",
    body=json.dumps(
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"a {SLOW_WORD}"]}]}
    ).encode(),
)
MODERATIONS = request("POST", "/v1/moderations", body=json.dumps({"input": [f"a {SLOW_WORD}", "red"]}).encode())
BATCH = request(
    "POST",
    "/classify/batch",
    body=json.dumps({"inputs": [{"text": f"a {SLOW_WORD}"}, {"text": "red"}], "tasks": ["fruit"]}).encode(),
)
UNFINISHED: dict[str, bytes] = {
    "its item is encoded": classify(f"a {SLOW_WORD}"),
    "its items are encoded, in the Open Inference Protocol": INFER,
    "its batch is encoded": BATCH,
    "its items are encoded, with OpenAI's client": MODERATIONS,
    "its body is incomplete": classify()[:-5],
    "its large body is incomplete": request("POST", "/classify", body=b" " * 1_000_000)[:-5],
    "its headers are incomplete": b"POST /classify HTTP/1.1\r\nHost: test\r\nContent-Le",
    "its first line is incomplete": b"POST /class",
}
CUT_QUICKLY = ["its batch is encoded", "its items are encoded, with OpenAI's client", "its body is incomplete"]


@pytest.fixture
def fruit(shelf):
    shelf.publish("fruit")
    return shelf.store


@pytest.mark.parametrize("name", each(UNFINISHED, tried=CUT_QUICKLY))
@pytest.mark.parametrize("delay", each([0, 1.5], tried=[0]), ids=["at once", "after a delay"])
@pytest.mark.slow
def test_a_request_that_the_end_of_the_drain_cuts_is_told_to_come_again(
    fruit, server, reliability, name, delay, counts
):
    number = counts(3, 30)
    running = server(fruit, planted="stumbles", **PATIENT, **{**DRAIN, "drain_delay_seconds": delay})
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(running.port)) for _ in range(number)]
        for connection in connections:
            connection.sendall(UNFINISHED[name])
        time.sleep(0.3)
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        answers = [read_answer(connection) for connection in connections]
        cut_seconds = time.monotonic() - started
        code = running.process.wait(timeout=EXIT_SECONDS)
        seconds = time.monotonic() - started

    for status, headers, body in answers:
        assert status == 503, answers
        is_openai = UNFINISHED[name] is MODERATIONS
        assert headers["content-type"] == ("application/json" if is_openai else "application/problem+json")
        assert headers["connection"] == "close"
        assert headers["retry-after"] == "1"
        assert code_of(json.loads(body)) == "draining"
        assert ("error" in json.loads(body)) == (is_openai or UNFINISHED[name] is INFER)
    eventually(lambda: len(lines(running)) == number, 5)
    eventually(lambda: [event["requests"] for event in events_named(running, "requests_cut")] == [number])
    reliability(
        f"{number} requests that are not answered at the end of a drain of 3 s: {name}, SIGTERM waits {delay} s",
        "503 draining with Retry-After and a log line each, after 2.7 to 3 s; exit 0",
        f"{len(answers)} answers after {cut_seconds:.1f} s, exit {code} after {seconds:.1f} s",
        code == 0 and cut_seconds >= 2.7 and seconds <= counts(EXIT_SECONDS, 4),
    )


def lines(running) -> list[dict]:
    return [event for event in events_named(running, "request") if event["problem"] == "draining"]


@pytest.mark.parametrize("drain_seconds", each([5, 5.4, 8], tried=[5]))
@pytest.mark.slow
def test_a_request_may_take_nearly_the_whole_drain(fruit, server, drain_seconds):
    running = server(fruit, planted="stumbles", drain_delay_seconds=0, drain_seconds=drain_seconds)
    with connect(running.port) as connection:
        connection.sendall(classify(f"a {SLOW_WORD}"))
        time.sleep(0.2)
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert read_answer(connection)[0] == 200
        assert time.monotonic() - started > SLOW_SECONDS - 1
        assert running.process.wait(timeout=EXIT_SECONDS) == 0
    assert not events_named(running, "requests_cut")


COMPLETED: dict[str, Callable[[bytes], int]] = {
    "in the first line": lambda data: 6,
    "in the headers": lambda data: data.index(b"\r\n\r\n") - 3,
    "in the body": lambda data: len(data) - 5,
}


@pytest.mark.parametrize("name", each(COMPLETED, tried=["in the headers"]))
@pytest.mark.slow
def test_a_request_of_which_a_part_has_arrived_is_completed_while_the_service_drains(fruit, server, name):
    running = server(fruit, drain_delay_seconds=0, drain_seconds=30)
    data = classify()
    cut = COMPLETED[name](data)
    with connect(running.port) as connection, connect(running.port) as idle:
        connection.sendall(data[:cut])
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        assert is_closed(idle)
        connection.sendall(data[cut:])
        assert read_answer(connection)[0] == 200
        assert is_closed(connection)
        assert running.process.wait(timeout=EXIT_SECONDS) == 0


@pytest.mark.slow
def test_a_client_that_still_sends_its_body_can_read_that_it_was_cut(fruit, server):
    running = server(fruit, **PATIENT, **DRAIN)
    with connect(running.port) as connection:
        connection.sendall(request("POST", "/classify", body=b" " * 5_000_000)[:1000])
        connection.settimeout(0.05)
        running.process.send_signal(signal.SIGTERM)
        answer = b""
        while b"draining" not in answer:
            try:
                connection.sendall(b" " * 100)
                answer += connection.recv(65_536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 503 ")
    assert running.process.wait(timeout=EXIT_SECONDS) == 0
