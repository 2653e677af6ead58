"""Probes and scrapes while other clients hold more connections than the service has."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support.faults.open_files import many_files
from tests.support.faults.raw_http import events_named, read_answer, request
from tests.support.sampling import each

PROBES = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/metrics"]
HEAD = b"GET /livez HTTP/1.1\r\nHost: te"
BODY = b"POST /classify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
UNREAD = request("GET", "/docs/assets/swagger-ui-bundle.js") * 4
FLOODS = {
    "send nothing": b"",
    "stop in the headers": HEAD,
    "stop in the body": BODY,
    "do not read large answers": UNREAD,
    "ask for metrics and keep the connection": request("GET", "/metrics"),
    "send probes and a body that never ends": request("GET", "/livez", "Content-Length: 100"),
}
ANSWER_SECONDS = 5.0
SECONDS_BETWEEN = 0.05


@contextmanager
def flood(port: int, number: int, data: bytes) -> Iterator[None]:
    """So many connections that have sent `data`. A connection that the service closes is opened again."""
    stopping = threading.Event()

    def opened() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(data)
        return connection

    def reopen(connections: list[socket.socket]) -> None:
        for place in itertools.cycle(range(number)):
            if stopping.is_set():
                return
            if place == 0:
                time.sleep(SECONDS_BETWEEN)
            try:
                is_closed = connections[place].recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                is_closed = False
            except OSError:
                is_closed = True
            if is_closed:
                connections[place].close()
                with suppress(OSError):
                    connections[place] = opened()

    with many_files(number), ExitStack() as stack:
        connections = [opened() for _ in range(number)]
        stack.callback(lambda: [connection.close() for connection in connections])
        thread = threading.Thread(target=reopen, args=(connections,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopping.set)
        yield


def statuses(port: int, paths: list[str], count: int) -> Counter[int | str]:
    """What so many probes got, each on a connection of its own; `none` of a path for no answer in time."""
    found: Counter[int | str] = Counter()
    for path in itertools.islice(itertools.cycle(paths), count):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
                connection.sendall(request("GET", path))
                found[read_answer(connection)[0]] += 1
        except TimeoutError:
            found[f"none of {path}"] += 1
        time.sleep(SECONDS_BETWEEN)
    return found


@pytest.mark.parametrize("behaviour", each(FLOODS, tried=["send nothing", "do not read large answers"]))
@pytest.mark.slow
def test_probes_are_answered_beside_clients_that(behaviour, shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, max_connections=counts(100, 1024), log_level="warning")
    number, asked = counts(150, 1_200), counts(20, 100)

    with flood(running.port, number, FLOODS[behaviour]):
        found = statuses(running.port, PROBES, asked)

    reliability(
        f"{number} clients that {behaviour}, and connect again; {asked} probes and scrapes",
        "all answered 200",
        str(dict(found)),
        found == {200: asked},
    )


@pytest.mark.parametrize(
    "behaviour",
    each(["send nothing", "stop in the headers", "do not read large answers"], tried=["stop in the headers"]),
)
@pytest.mark.slow
def test_the_other_port_is_answered_beside_clients_of_one_that(behaviour, shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, metrics_port=0, max_connections=counts(100, 1024))
    metrics_port = int(events_named(running, "listening")[0]["metrics_url"].rsplit(":", 1)[1])
    number, asked = counts(400, 1_200), counts(10, 50)

    with flood(running.port, number, FLOODS[behaviour]):
        found = statuses(metrics_port, ["/metrics"], asked)
    with flood(metrics_port, number, FLOODS[behaviour]):
        found += statuses(metrics_port, ["/metrics"], asked)
        found += statuses(running.port, ["/livez", "/tasks"], asked)

    reliability(
        f"{number} clients of the service's port, then of the metrics port, that {behaviour}",
        "both ports answer",
        str(dict(found)),
        found == {200: 3 * asked},
    )


def test_control_connections_without_a_reserve_are_found(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="closes_the_newest", max_connections=100, log_level="warning")

    with flood(running.port, 150, b""):
        found = statuses(running.port, PROBES, 20)

    reliability(
        "*control*: 150 clients of a service that closes every connection over its limit of 100",
        "found",
        str(dict(found)),
        found[200] < 20,
    )
