"""Rollbacks while clients pin versions that take seconds to load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from model_store import activate
from tests.support.counting import counting_draft
from tests.support.faults.asking import as_json, ask
from tests.support.waiting import eventually

CLIENTS, VERSIONS = 8, 4
MOST_SECONDS = 2.0
SETTINGS = {"max_pinned_versions": 1, "timeout_ms": 60_000, "queue_size": 4, "log_level": "error"}


def asked(running, **fields: object) -> dict:
    (answer,) = ask(running.base, [as_json("/classify", {"text": "red", **fields})])
    return answer.json


def publish(shelf) -> None:
    """Two versions of `fruit`, and versions of `tags` that load slowly."""
    for seed in (1, 2):
        shelf.publish("fruit", seed=seed)
    for seed in range(VERSIONS):
        shelf.publish_draft(counting_draft(shelf, exponent=9, name="tags", seed=seed))


@contextmanager
def pins(running) -> Iterator[list[dict]]:
    """Clients that ask for one slow version after another; their answers."""
    answers: list[dict] = []
    stopping = threading.Event()

    def pin(first: int) -> None:
        number = first
        while not stopping.is_set():
            answers.append(asked(running, task="tags", version=1 + number % (VERSIONS - 1)))
            number += 1

    clients = [threading.Thread(target=pin, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answers
    finally:
        stopping.set()
        for client in clients:
            client.join()


def slowest_rollback(shelf, running, count: int) -> float:
    """The longest time in seconds from a rollback of `fruit` to an answer of the version that it makes live."""
    slowest = 0.0
    for number in range(count):
        version = 1 + number % 2
        started = time.monotonic()
        activate(shelf.store, "fruit", version)
        while asked(running, task="fruit")["version"] != version:
            assert time.monotonic() < started + 60
            time.sleep(0.02)
        slowest = max(slowest, time.monotonic() - started)
    return slowest


@pytest.mark.slow
def test_a_rollback_does_not_wait_for_versions_that_clients_pin(shelf, server, counts, reliability):
    publish(shelf)
    running = server(shelf.store, **SETTINGS)
    loads = 'mora_model_loads_total{result="loaded",task="tags"}'

    with pins(running) as answers:
        eventually(lambda: running.metric(loads) >= 2, 60)
        slowest = slowest_rollback(shelf, running, counts(2, 40))

    assert {answer.get("code", "answered") for answer in answers} <= {"answered", "queue_full"}
    reliability(
        f"{counts(2, 40)} rollbacks while {CLIENTS} clients pin versions that take long to load",
        f"each is answered within {MOST_SECONDS:.0f} s, polling every second",
        f"{slowest:.1f} s at most; {running.metric(loads):.0f} slow loads",
        slowest <= MOST_SECONDS or counts(True, False),
    )


def test_control_a_rollback_behind_pinned_versions_is_found(shelf, server, reliability):
    publish(shelf)
    running = server(shelf.store, planted="follows_behind", **SETTINGS)

    with pins(running):
        eventually(lambda: running.metric('mora_model_loads_total{result="loaded",task="tags"}') >= 2, 60)
        slowest = slowest_rollback(shelf, running, 4)

    reliability(
        "*control*: rollbacks on the thread that loads pinned versions",
        f"found: over {MOST_SECONDS:.0f} s",
        f"{slowest:.1f} s",
        slowest > MOST_SECONDS,
    )
