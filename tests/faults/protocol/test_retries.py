"""Retries of clients do not overload a failing service (row O9)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.client import Client, ClientError, RetryBudget
from tests.support.faulty_service import OK, RESET, TRUNCATED, FaultyService, Reply, faulty_service, problem
from tests.support.sampling import each
from tests.support.waiting import eventually

MOST_PER_REQUEST = 1.15
FAULTS = [problem(503, "queue_full"), RESET, TRUNCATED, Reply(502, b"<html>")]


def failing(share: float) -> Callable[[], Reply]:
    """Replies of which so many are faults, of each kind alike."""
    dice = random.Random(0)  # noqa: S311
    return lambda: dice.choice(FAULTS) if dice.random() < share else OK


def storm(running: FaultyService, requests: int, at_once: int = 32) -> tuple[float, float]:
    """Attempts and answers for each of the requests of one client that threads share."""
    with Client(running.base, "shop-key-0123456789") as client, ThreadPoolExecutor(at_once) as threads:

        def is_answered(_: int) -> bool:
            try:
                return client.classify(text="a red apple").task == "fruit"
            except ClientError:
                return False

        answered = sum(threads.map(is_answered, range(requests)))
    return len(running.attempts) / requests, answered / requests


@pytest.mark.parametrize("share", each([0.3, 1.0], tried=[0.3]), ids="{:.0%}".format)
def test_retries_stay_within_the_budget(counts, reliability, share):
    requests = counts(2_000, 20_000)
    with faulty_service(failing(share)) as running:
        attempts, answered = storm(running, requests)

    reliability(
        f"{share:.0%} of attempts fail, {requests} requests of one client",
        f"more than 1 and at most {MOST_PER_REQUEST} attempts a request",
        f"{attempts:.3f} attempts a request, {answered:.1%} answered",
        1 < attempts <= MOST_PER_REQUEST,
    )


def test_control_a_client_without_a_budget_is_seen(counts, reliability, monkeypatch):
    monkeypatch.setattr(RetryBudget, "withdraw", lambda _: True)
    requests = counts(500, 2_000)
    with faulty_service(failing(0.3)) as running:
        attempts, answered = storm(running, requests)

    reliability(
        "*control*: a client without a budget, 30% of attempts fail",
        f"found: over {MOST_PER_REQUEST} attempts a request",
        f"{attempts:.3f} attempts a request, {answered:.1%} answered",
        attempts > MOST_PER_REQUEST,
    )


def test_retries_hide_rare_faults(counts, reliability):
    """What retries are for: faults that are rarer than the budget."""
    requests = counts(1_000, 20_000)
    replies = itertools.cycle([reply for fault in FAULTS for reply in (fault, *[OK] * 49)])
    with faulty_service(lambda: next(replies)) as running:
        attempts, answered = storm(running, requests, at_once=1)

    reliability(
        f"2% of attempts fail, {requests} requests of one client",
        "all answered",
        f"{attempts:.3f} attempts a request, {answered:.2%} answered",
        answered == 1,
    )


@pytest.mark.slow
def test_a_client_over_the_rate_limit_waits_for_retry_after(shelf, server):
    shelf.publish("fruit")
    running = server(shelf.store, rate_limit=2, rate_burst=1)

    with Client(running.base) as client:
        answers = [client.classify(text="a red apple").version for _ in range(3)]

    assert answers == [1, 1, 1]
    eventually(lambda: [event["status"] for event in running.events if event["event"] == "request"].count(200) == 3)
    assert 1 <= [event.get("problem") for event in running.events].count("rate_limited") <= 2
