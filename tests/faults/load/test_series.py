"""Random names from clients add no series to the metrics."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from service.telemetry.metrics import Metrics

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789._-/%\"'\\{}\n\u00e9\u2028\U0001f34e"


def series_in(page: str) -> int:
    return sum(1 for line in page.splitlines() if line and not line.startswith("#"))


def made_up_requests(count: int) -> Iterator[tuple[str, str, bytes | None, dict[str, str]]]:
    """Method, path, body and headers, with names that no request had before."""
    rng = random.Random(0)  # noqa: S311
    for number in range(count):
        name = f"{number}-" + "".join(rng.choices(_ALPHABET, k=rng.randint(1, 100)))
        plain = f"{number}-{rng.getrandbits(64):x}"
        headers = {"Content-Type": "application/json", "X-Request-ID": plain}
        yield "POST", "/classify", json.dumps({"task": name, "text": "red"}).encode(), headers
        yield "POST", "/classify/batch", json.dumps({"inputs": [{"text": "red"}], "tasks": [name]}).encode(), headers
        yield "POST", "/v1/embeddings", json.dumps({"input": "red", "model": name}).encode(), headers
        yield "GET", f"/tasks/{plain}", None, headers
        yield "GET", f"/{plain}?task={plain}", None, headers


def send_all(port: int, count: int) -> set[int]:
    statuses = set()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for method, path, body, headers in made_up_requests(count):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        statuses.add(response.status)
    connection.close()
    return statuses


def page_of(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    return page


@pytest.mark.slow
def test_random_names_from_clients_add_no_series(shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store)
    assert send_all(running.port, 1) == {200, 404}  # the first of a kind makes the one series of its kind
    before = series_in(page_of(running.port))

    names = counts(300, 10_000)
    assert send_all(running.port, names) == {200, 404}

    added = series_in(page_of(running.port)) - before
    reliability(f"{names} random task names, four requests each", "0 series added", f"{added} added", added == 0)


def test_control_a_label_taken_from_clients_adds_series():
    metrics = Metrics()
    before = series_in(generate_latest(metrics.registry).decode())
    for number in range(10):
        metrics.requests.labels(f"made-up-{number}", "", "404").inc()
    assert series_in(generate_latest(metrics.registry).decode()) >= before + 10
