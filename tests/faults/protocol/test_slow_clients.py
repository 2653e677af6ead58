"""Clients that are slow, many, or send too much: they are disconnected, and other clients are not affected."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from model_store import Store
from service.web.connections import BACKLOG
from service.web.keys import key_line
from tests.support.faults.asking import scrape
from tests.support.faults.open_files import many_files
from tests.support.faults.raw_http import (
    ask,
    classify,
    connect,
    events_named,
    is_closed,
    read_answer,
    request,
    trickle,
)
from tests.support.tiny import Shelf
from tests.support.waiting import wait_until

IMPATIENT = {"header_seconds": 1, "body_idle_seconds": 1, "body_seconds": 2}
TOO_LARGE = 'mora_rejected_total{reason="headers_too_large"}'
PARTIAL = b"POST /classify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, module_server):
    shelf = Shelf(Store(tmp_path_factory.mktemp("impatient") / "store"))
    shelf.publish("fruit")
    running = module_server(shelf.store, **IMPATIENT)
    assert ask(running.port, classify())[0] == 200
    return running


def is_answered(connection) -> bool:
    return bool(select.select([connection], [], [], 0.1)[0])


def slow_clients(running) -> float:
    return running.metric("mora_slow_client_total")


def files_recover(running, before: int) -> bool:
    return wait_until(lambda: running.open_files <= before, 20)


def pieces_of(data: bytes, times: int = 200) -> list[bytes]:
    return [data] * times


def headers_one_by_one(connection) -> bool:
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n")
    return trickle(connection, (b"X-%d: a\r\n" % number for number in range(90)), 0.2)


def nothing_at_all(connection) -> bool:
    return is_closed(connection)


def empty_lines(connection) -> bool:
    return trickle(connection, pieces_of(b"\r\n"), 0.2)


def the_next_request_halfway(connection) -> bool:
    connection.sendall(request("GET", "/livez"))
    assert read_answer(connection)[0] == 200
    return trickle(connection, [b"GET /livez HTTP/1.1\r\nHost: ", *pieces_of(b"a")], 0.2)


def what_follows_a_refusal(connection) -> bool:
    connection.sendall(b"POST /classify HTTP/1.1\r\nHost: a b\r\nContent-Length: 100000\r\n\r\n")
    return goes_on_after_its_answer(connection)


def what_follows_nonsense(connection) -> bool:
    connection.sendall(b"nonsense\r\n\r\n")
    return goes_on_after_its_answer(connection)


def goes_on_after_its_answer(connection) -> bool:
    """The service has ended its half, and does not wait for ours without end."""
    assert read_answer(connection)[0] == 400
    assert connection.recv(1) == b""
    try:
        return wait_until(lambda: connection.sendall(b"a"), 20)
    except ConnectionError:
        return True


WAYS = [
    headers_one_by_one,
    nothing_at_all,
    empty_lines,
    what_follows_a_refusal,
    what_follows_nonsense,
    the_next_request_halfway,
]


@pytest.mark.slow
def test_connections_without_a_whole_request_are_closed_and_counted(impatient):
    def try_it(way) -> bool:
        with connect(impatient.port) as connection:
            return way(connection)

    before = slow_clients(impatient)
    with ThreadPoolExecutor(len(WAYS)) as threads:
        closed = dict(zip([way.__name__ for way in WAYS], threads.map(try_it, WAYS), strict=True))
    assert closed == dict.fromkeys(closed, True)
    assert wait_until(lambda: slow_clients(impatient) == before + len(WAYS))
    assert ask(impatient.port, classify())[0] == 200


@pytest.mark.parametrize("way", ["stops", "trickles"])
def test_a_stalled_body_gets_408_and_is_counted(impatient, way):
    slow, refused = slow_clients(impatient), impatient.metric('mora_rejected_total{reason="slow_client"}')
    with connect(impatient.port) as connection:
        connection.sendall(PARTIAL + b"{")
        if way == "trickles":  # always within the time between two parts
            assert wait_until(lambda: connection.sendall(b" ") or is_answered(connection), 20)
        status, headers, body = read_answer(connection)
        assert (status, json.loads(body)["code"]) == (408, "slow_client")
        assert headers["connection"] == "close"
        assert is_closed(connection)
    assert slow_clients(impatient) == slow + 1
    assert impatient.metric('mora_rejected_total{reason="slow_client"}') == refused + 1


def test_a_client_that_stays_connected_after_its_408_is_counted_once(impatient):
    files, before = impatient.open_files, slow_clients(impatient)
    with connect(impatient.port) as connection:
        connection.sendall(PARTIAL + b"{")
        assert read_answer(connection)[0] == 408
        assert files_recover(impatient, files)
        assert slow_clients(impatient) == before + 1


def test_a_client_that_does_not_read_its_answers_is_disconnected(impatient):
    files, before = impatient.open_files, slow_clients(impatient)
    with connect(impatient.port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asset = request("GET", "/docs/assets/swagger-ui-bundle.js")
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(asset)
        assert wait_until(lambda: slow_clients(impatient) == before + 1)
    assert files_recover(impatient, files)
    assert ask(impatient.port, classify())[0] == 200


def test_control_longer_limits_keep_the_same_clients_connected(shelf, server):
    """The same clients at a service with longer limits."""
    shelf.publish("fruit")
    patient = server(shelf.store)
    with connect(patient.port) as headers, connect(patient.port) as body:
        headers.sendall(b"GET /livez HTTP/1.1\r\n")
        body.sendall(PARTIAL + b"{")
        for connection in (headers, body):
            connection.settimeout(2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        headers.settimeout(30)
        headers.sendall(b"Host: test\r\n\r\n")
        assert read_answer(headers)[0] == 200
    assert slow_clients(patient) == 0


def test_slow_clients_do_not_disturb_others(impatient, counts, reliability):
    number = counts(60, 500)
    files, before = impatient.open_files, slow_clients(impatient)
    opening = [b"GET /livez HTTP/1.1\r\nHost: te", PARTIAL, PARTIAL + b'{"text": ', b""]
    failed = asked = 0
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(impatient.port)) for _ in range(number)]
        for position, connection in enumerate(slow):
            connection.sendall(opening[position % len(opening)])
        for _ in range(20):
            failed += ask(impatient.port, classify())[0] != 200
            asked += 1
        closed = sum(is_closed(connection) for connection in slow)
    recovered = files_recover(impatient, files)
    counted = slow_clients(impatient) - before
    reliability(
        f"{number} clients that stop in headers or body, {asked} requests beside them",
        "all closed and counted, 0 requests lost, files closed",
        f"{closed} closed, {counted:.0f} counted, {failed} lost, files closed: {recovered}",
        closed == counted == number and not failed and recovered,
    )


def test_connections_over_the_limit_are_answered_or_closed(shelf, server, counts, reliability):
    number, allowed = counts(200, 3_000), counts(40, 500)
    files, reserve = counts((200, 96), (10_000, BACKLOG))
    shelf.publish("fruit")
    running = server(shelf.store, open_files=files, max_connections=allowed, header_seconds=60)
    files = running.open_files
    with connect(running.port) as probe, ExitStack() as stack:
        probe.sendall(request("GET", "/livez"))
        assert read_answer(probe)[0] == 200
        others = [stack.enter_context(connect(running.port)) for _ in range(number)]
        for connection in others[number - reserve :]:
            status, headers, _ = read_answer(connection)
            assert (status, "retry-after" in headers) == (503, True)
        for connection in others[allowed - 1 : number - reserve]:
            assert is_closed(connection)
        probe.sendall(request("GET", "/livez"))
        alive = read_answer(probe)[0] == 200
        held = min(running.open_files for _ in range(100)) - files  # those of the store are open for a moment
    recovered = files_recover(running, files)
    refused = running.metric("mora_connections_refused_total")
    reliability(
        f"{number + 1} connections where {allowed} are allowed",
        f"the last {reserve} answered 503, the rest closed, all counted, a probe on an open one answered, files closed",
        f"{held} held, {refused:.0f} refused, probe answered: {alive}, files closed: {recovered}",
        alive and recovered and held <= allowed + reserve and refused == number + 1 - allowed,
    )


def test_connections_leave_enough_file_descriptors_to_read_the_store(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, open_files=256, header_seconds=60)
    with many_files(1_500):
        files = running.open_files
        with connect(running.port) as probe, ExitStack() as stack:
            probe.sendall(request("GET", "/livez"))
            assert read_answer(probe)[0] == 200
            for _ in range(500):
                stack.enter_context(connect(running.port))
            assert wait_until(lambda: running.open_files > files + 100)
            shelf.publish("tags")  # the store is still read
            assert wait_until(lambda: b"tags" in tasks_over(probe))
            most = running.open_files
        recovered = files_recover(running, files + 2)
        answered = ask(running.port, classify_fruit())[0]
    reliability(
        "500 connections to a process that may open 256 files; a task published meanwhile",
        "the task is loaded, files closed, 200 afterwards",
        f"{most} files open at most, files closed: {recovered}, {answered} afterwards",
        recovered and answered == 200 and most < 256,
    )


def tasks_over(connection) -> bytes:
    connection.sendall(request("GET", "/tasks"))
    return read_answer(connection)[2]


def classify_fruit() -> bytes:
    return request("POST", "/classify", body=b'{"task": "fruit", "text": "a red apple"}')


HEADERS = {
    "one of 10 MB": [b"X-Long: " + b"a" * 10_000_000 + b"\r\n"],
    "10,000": [b"X-%d: a\r\n" % number for number in range(10_000)],
    "101 short ones": [b"X-%d: a\r\n" % number for number in range(100)],
    "17 KB in three": [b"X-%d: %s\r\n" % (number, b"a" * 5_600) for number in range(3)],
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_beyond_the_limit_are_refused(impatient, name, reliability):
    before, resident = impatient.metric(TOO_LARGE), impatient.resident_bytes
    status = 0
    with connect(impatient.port) as connection:
        with contextlib.suppress(OSError):  # it is closed while we send
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n" + b"".join(HEADERS[name]) + b"\r\n")
        with contextlib.suppress(OSError):
            status, _, body = read_answer(connection)
            assert status in (0, 431)
            assert not status or json.loads(body)["code"] == "headers_too_large"
    grown = (impatient.resident_bytes - resident) / 2**20
    counted = impatient.metric(TOO_LARGE) - before
    reliability(
        f"headers: {name}",
        "431 or closed, counted once",
        f"{status or 'closed'}, counted {counted:.0f}",
        counted == 1 and grown < 8,
    )
    assert ask(impatient.port, classify())[0] == 200


def test_headers_within_the_limit_are_read(impatient):
    few_and_long = [f"X-{number}: {'a' * 5_300}" for number in range(3)]
    many_and_short = [f"X-{number}: a" for number in range(99)]
    for headers in (few_and_long, many_and_short):
        data = request("GET", "/livez", *headers)
        assert ask(impatient.port, data)[0] == 200
        with connect(impatient.port) as connection:  # and however they are cut
            for start in range(0, len(data), 997):
                connection.sendall(data[start : start + 997])
            assert read_answer(connection)[0] == 200


def test_a_path_beyond_the_limit_is_refused(impatient):
    assert ask(impatient.port, request("GET", "/" + "a" * 20_000))[0] in (0, 431)


@pytest.mark.parametrize("part", ["trailer", "trailers", "extension"])
def test_trailers_and_extensions_of_a_chunked_body_are_limited(impatient, part):
    head = (
        b"POST /classify HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    rest = {
        "trailer": b"0\r\nX-Long: " + b"a" * 5_000_000,
        "trailers": b"0\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(10_000)),
        "extension": b"1;" + b"a" * 5_000_000,
    }[part]
    resident, before = impatient.resident_bytes, impatient.metric(TOO_LARGE)
    with connect(impatient.port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head + rest)
        assert is_closed(connection)
    assert impatient.resident_bytes - resident < 8 * 2**20
    assert impatient.metric(TOO_LARGE) == before + 1
    assert ask(impatient.port, classify())[0] == 200


def test_a_trailer_is_never_read_as_a_header(shelf, server, tmp_path):
    key = "shop-key-0123456789"
    (tmp_path / "keys").write_text(key_line("shop", key))
    shelf.publish("fruit")
    running = server(shelf.store, api_keys_file=tmp_path / "keys")
    chunked = request("POST", "/classify", "Content-Type: application/json", "Transfer-Encoding: chunked")
    with connect(running.port) as connection:
        connection.sendall(chunked + b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + key.encode() + b"\r\n\r\n")
        assert read_answer(connection)[0] == 401
        connection.sendall(request("GET", "/tasks"))
        assert read_answer(connection)[0] == 401


def test_metrics_have_a_port_of_their_own(shelf, server):
    shelf.publish("fruit")
    running = server(shelf.store, metrics_port=0)
    url = events_named(running, "listening")[0]["metrics_url"]
    port = int(url.rsplit(":", 1)[1])
    assert ask(running.port, request("GET", "/metrics"))[0] == 404
    assert scrape(f"{url}/metrics")["mora_connections_refused_total"] == 0
    for path in ("/", "/tasks", "/classify", "/livez", "/metrics/"):
        status, _, body = ask(port, request("GET", path))
        assert (status, json.loads(body)["code"]) == (404, "not_found")
