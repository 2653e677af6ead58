"""Clients that leave: their work is dropped before it runs (O4)."""

from __future__ import annotations

import json
import socket
import time
import urllib.request

from tests.counting import LONG, SHORT, counting_draft


def post(port: int, **fields: object) -> socket.socket:
    """A request on a connection of its own, its answer not read."""
    body = json.dumps(fields).encode()
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    head = ["POST /classify HTTP/1.1", "Host: test", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    client.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return client


def eventually(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_what_clients_that_left_were_waiting_for_never_runs(shelf, server, counts, reliability):
    shelf.publish_draft(counting_draft(shelf))
    number = counts(60, 1000)
    running = server(shelf.store, queue_size=number, encoder_workers=1, max_batch_tokens=1, timeout_ms=600_000)
    before = running.metric('mora_batch_size_count{encoder="text"}')
    busy = post(running.port, text=LONG)  # minutes
    time.sleep(0.2)
    waiting = [post(running.port, text=SHORT) for _ in range(number)]
    eventually(lambda: running.metric('mora_queue_depth{encoder="text"}') == number)

    for client in (*waiting, busy):
        client.close()

    eventually(lambda: running.metric("mora_client_gone_total") == number + 1)
    eventually(lambda: running.metric('mora_queue_depth{encoder="text"}') == 0)
    request = urllib.request.Request(
        f"{running.base}/classify", json.dumps({"text": SHORT}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
    ran = running.metric('mora_batch_size_count{encoder="text"}') - before - 1  # the last one's
    reliability(
        f"{number:,} clients left while their requests waited",
        "at least 95 % never run",
        f"{number - ran:,.0f} of {number:,} never ran",
        ran <= 0.05 * number,
    )
