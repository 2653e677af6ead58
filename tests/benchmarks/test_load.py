"""The load generator, against a server that does as it is told."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import load
from benchmarks.load import Load, MeasurementError, arrivals, closed_loop, open_loop, percentile


class Obedient(BaseHTTPRequestHandler):
    """Answers with the status that the body names; closes the connection without an answer for `hang up`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body != b"hang up":
            self.send_response(int(body))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Obedient) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_open_loop_counts_latency_from_when_a_request_was_meant_to_be_sent(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "arrivals", lambda *_: iter([-5.0, 0.0]))

    late, _ = sorted(open_loop(url, [b"200"], per_second=1, seconds=1).latencies_ms, reverse=True)

    assert late >= 5000


@pytest.mark.parametrize("bodies", [[b"500"], [b"200", b"200", b"404"]])
def test_errors_are_counted_and_fail_a_measurement(url: str, bodies: list[bytes]) -> None:
    measured = closed_loop(url, bodies, concurrency=3, seconds=0.2)

    status = bodies[-1].decode()
    assert measured.statuses[status] > 0
    assert sum(measured.statuses.values()) == len(measured.latencies_ms)
    with pytest.raises(MeasurementError, match=f"the mix: answers were .*{status}"):
        measured.check("the mix")


def test_a_lost_connection_is_an_error(url: str) -> None:
    measured = open_loop(url, [b"hang up"], per_second=1, seconds=0)

    assert measured.statuses == {"ServerDisconnectedError": 1}
    with pytest.raises(MeasurementError):
        measured.check("the mix")


def test_a_server_that_is_not_there_is_an_error() -> None:
    measured = open_loop("http://127.0.0.1:9/", [b"200"], per_second=1, seconds=0)

    assert measured.statuses == {"ClientConnectorError": 1}


def test_open_loop_may_be_refused_but_its_tail_shows_it(url: str) -> None:
    measured = open_loop(url, [b"200", b"503"], per_second=100, seconds=0.2)

    measured.check("the mix")
    assert measured.as_json()["p99_ms"] is None
    assert len(measured.refusals_ms) == measured.statuses["503"]
    assert math.isfinite(measured.percentile(0.1))


def test_closed_loop_may_not_be_refused(url: str) -> None:
    measured = closed_loop(url, [b"200", b"503"], concurrency=1, seconds=0.1)

    with pytest.raises(MeasurementError, match="503"):
        measured.check("the mix")


def test_arrivals_are_the_same_for_the_same_seed_and_as_many_as_asked() -> None:
    offsets = list(arrivals(200, 50, seed=1))

    assert offsets == list(arrivals(200, 50, seed=1)) != list(arrivals(200, 50, seed=2))
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert offsets[-1] < 50
    assert len(offsets) == pytest.approx(200 * 50, rel=0.05)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (1.0, 100)])
def test_percentiles_are_nearest_ranks(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_refused_requests_are_at_the_end_of_the_tail() -> None:
    measured = Load(2.0, (1.0, 2.0, math.inf, 3.0), {"200": 3, "503": 1}, 2.0)

    assert measured.percentile(0.75) == 3
    assert measured.percentile(0.76) == math.inf
    assert measured.per_second == 1.5
