"""Texts beside large pictures: a text-only request does not wait while pictures are decoded."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.load import Load, open_loop
from tests.support.faults.asking import Sent, ask
from tests.support.faults.pictures import large

PICTURES, EDGE, QUICK_EDGE = 8, 5_000, 2_500  # 25 and 6 megapixels each
PER_SECOND = 20
TEXTS = [json.dumps({"text": text}).encode() for text in ("a red apple", "a green square of red apples " * 40)]
MOST_TIMES_ALONE = 3
SETTINGS = {"timeout_ms": 120_000, "log_level": "error"}


@contextmanager
def pictures_decoded(base: str, edge: int) -> Iterator[list[int]]:
    """Eight clients that send one picture after another; the statuses of the answers."""
    statuses: list[int] = []
    stopping = threading.Event()
    body = json.dumps({"image": b64encode(large("RGBA PNG", edge)).decode(), "timeout_ms": 120_000}).encode()

    def send() -> None:
        while not stopping.is_set():
            statuses.extend(answer.status for answer in ask(base, [Sent("/classify", body)]))

    clients = [threading.Thread(target=send) for _ in range(PICTURES)]
    for client in clients:
        client.start()
    try:
        yield statuses
    finally:
        stopping.set()
        for client in clients:
            client.join()


def texts(base: str, seconds: float, seed: int) -> Load:
    """Short texts and long ones in turn."""
    return open_loop(f"{base}/classify", TEXTS, PER_SECOND, seconds, seed)


def alone_and_beside(base: str, seconds: float) -> tuple[Load, Load]:
    """Texts alone, and texts beside pictures."""
    texts(base, 1, seed=0)
    alone = texts(base, seconds, seed=1)
    with pictures_decoded(base, EDGE) as statuses:
        beside = texts(base, seconds, seed=1)
    assert set(statuses) == {200}
    return alone, beside


@pytest.mark.slow
def test_texts_are_answered_while_eight_pictures_are_decoded(shelf, server, counts):
    shelf.publish()
    running = server(shelf.store, **SETTINGS)

    with pictures_decoded(running.base, counts(QUICK_EDGE, EDGE)) as statuses:
        beside = texts(running.base, 2, seed=1)
        decoded_meanwhile = len(statuses)

    assert set(beside.statuses) == {"200"}
    assert set(statuses) == {200}
    assert len(statuses) - decoded_meanwhile >= PICTURES  # each text was answered before the last pictures


def test_timing_texts_do_not_wait_for_pictures(shelf, server, reliability):
    shelf.publish()
    alone, beside = alone_and_beside(server(shelf.store, **SETTINGS).base, 20)

    times = beside.percentile(0.95) / alone.percentile(0.95)
    assert set(beside.statuses) == {"200"}
    reliability(
        f"texts, {PER_SECOND} a second, beside {PICTURES} pictures of 25 megapixels: p95 over that alone",
        f"at most {MOST_TIMES_ALONE}",
        f"{times:.1f} ({alone.percentile(0.95):.1f} ms alone, {beside.percentile(0.95):.1f} ms beside)",
        times <= MOST_TIMES_ALONE,
    )


def test_control_one_queue_for_pictures_and_texts_is_found(shelf, server, reliability):
    shelf.publish()
    alone, beside = alone_and_beside(server(shelf.store, planted="shares", preparation_workers=1, **SETTINGS).base, 10)

    times = beside.percentile(0.95) / alone.percentile(0.95)
    reliability(
        "*control*: pictures and texts wait for the same threads",
        f"found: over {MOST_TIMES_ALONE} times",
        f"{times:.1f}",
        times > MOST_TIMES_ALONE,
    )
