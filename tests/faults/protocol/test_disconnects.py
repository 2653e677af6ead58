"""Clients that disconnect: their queued work is dropped before it runs (O4)."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.counting import LONG, SHORT, counting_draft
from tests.support.faults.raw_http import ask, classify, connect
from tests.support.waiting import eventually


def post(port: int, text: str) -> socket.socket:
    """A request on a connection of its own, its answer not read."""
    client = connect(port)
    client.sendall(classify(text))
    return client


@pytest.mark.slow
def test_requests_of_disconnected_clients_never_run(shelf, server, counts, reliability):
    shelf.publish_draft(counting_draft(shelf))
    number = counts(60, 1000)
    running = server(shelf.store, queue_size=number, encoder_workers=1, max_batch_tokens=1, timeout_ms=600_000)
    before = running.metric('mora_batch_size_count{encoder="text"}')
    busy = post(running.port, LONG)  # minutes
    time.sleep(0.2)
    waiting = [post(running.port, SHORT) for _ in range(number)]
    eventually(lambda: running.metric('mora_queue_depth{encoder="text"}') == number)

    for client in (*waiting, busy):
        client.close()

    eventually(lambda: running.metric("mora_client_gone_total") == number + 1)
    eventually(lambda: running.metric('mora_queue_depth{encoder="text"}') == 0)
    assert ask(running.port, classify(SHORT))[0] == 200
    ran = running.metric('mora_batch_size_count{encoder="text"}') - before - 1  # the last one's
    reliability(
        f"{number:,} clients disconnect while their requests wait",
        "at least 95 % never run",
        f"{number - ran:,.0f} of {number:,} never ran",
        ran <= 0.05 * number,
    )
