"""A port for metrics, which a new replica takes over from the one that it replaces."""

from __future__ import annotations

import socket
import urllib.request
from contextlib import suppress

import pytest

from service.telemetry.metrics import Metrics
from service.telemetry.metrics_port import serve_metrics
from tests.support.waiting import eventually


def replica(number: int) -> Metrics:
    metrics = Metrics()
    metrics.inflight_requests.set(number)
    return metrics


def scraped(port: int) -> str:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()
    return ""


def listening(host: str = "127.0.0.1") -> socket.socket:
    taken = socket.create_server((host, 0))
    taken.listen()
    return taken


def test_a_free_port_has_the_metrics_at_once():
    with listening() as probe:
        port = probe.getsockname()[1]

    serve_metrics(replica(7), "127.0.0.1", port)

    assert "mora_inflight_requests 7.0" in scraped(port).splitlines()
    assert "mora_log_lines_dropped_total 0.0" in scraped(port).splitlines()


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_one_of_those_that_wait_takes_the_port_over(replicas, events):
    with listening() as earlier:
        port = earlier.getsockname()[1]
        for number in range(replicas):
            serve_metrics(replica(number), "127.0.0.1", port, retry_seconds=0.01)
        assert [event["event"] for event in events] == ["metrics_port_taken"] * replicas

    eventually(lambda: "mora_inflight_requests" in scraped(port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
def test_an_address_that_is_not_of_this_machine_is_an_error(host):
    with pytest.raises(OSError, match=r"."):
        serve_metrics(replica(0), host, 0)
