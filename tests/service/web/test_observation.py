"""The headers, metrics and log line around every request, with applications that answer, fail or disconnect."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from service.telemetry.metrics import Metrics
from service.web.observation import Observation

START = {"type": "http.response.start", "status": 200, "headers": []}
TIMEOUT_MS = 700
END = {"type": "http.response.body", "body": b"answered"}


def observe(app, path: str = "/classify", headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[list[dict], Metrics]:
    """The messages that the client gets, and the metrics afterwards."""
    sent, metrics = [], Metrics()
    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(Observation(app, metrics, TIMEOUT_MS)(scope, None, send))
    return sent, metrics


async def answering(scope, receive, send) -> None:
    await send({**START, "headers": []})
    await send(END)


def requests(metrics: Metrics, status: int) -> float | None:
    labels = {"task": "", "modalities": "", "status": str(status)}
    return metrics.registry.get_sample_value("mora_requests_total", labels)


@pytest.mark.parametrize(
    ("client_id", "is_used"), [(b"shop-1", True), (b"a b", False), (b"x" * 129, False), (b"", False)]
)
def test_an_answer_has_the_clients_id_or_the_records(events, client_id, is_used):
    sent, metrics = observe(answering, headers=((b"x-request-id", client_id),))

    (line,) = [event for event in events if event["event"] == "request"]
    expected = client_id.decode() if is_used else line["request_id"]
    assert dict(sent[0]["headers"])[b"x-request-id"].decode() == expected
    assert line["client_request_id"] == (client_id.decode() if is_used else None)
    assert requests(metrics, 200) == 1


def test_an_unexpected_exception_is_a_problem_and_logged(events):
    async def failing(scope, receive, send) -> None:
        raise ZeroDivisionError("a secret")

    sent, metrics = observe(failing)

    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert requests(metrics, 500) == 1
    assert metrics.registry.get_sample_value("mora_rejected_total", {"reason": "internal"}) == 1
    assert [event["event"] for event in events] == ["internal_error", "request"]


def test_an_exception_after_the_start_of_an_answer_is_raised_to_the_server():
    async def breaking_off(scope, receive, send) -> None:
        await send({**START, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        observe(breaking_off)


def test_a_client_that_disconnects_is_counted_and_gets_nothing():
    async def disconnected(scope, receive, send) -> None:
        raise ClientDisconnect

    sent, metrics = observe(disconnected)

    assert sent == []
    assert requests(metrics, 499) == 1
    assert metrics.registry.get_sample_value("mora_client_gone_total") == 1


@pytest.mark.parametrize(("status", "is_counted"), [(200, False), (503, False), (401, True)])
def test_a_probe_is_counted_only_if_it_is_refused(events, status, is_counted):
    async def app(scope, receive, send) -> None:
        await send({**START, "status": status, "headers": []})
        await send(END)

    _, metrics = observe(app, "/readyz")

    assert (requests(metrics, status) == 1) == is_counted
    assert bool(events) == is_counted


@pytest.mark.parametrize("path", ["/classify", "/v2/models/fruit", "/livez", "/nowhere"])
def test_every_request_has_a_deadline_from_its_arrival(path):
    records = []

    async def noting(scope, receive, send) -> None:
        records.append(scope["state"]["record"])
        await answering(scope, receive, send)

    observe(noting, path)

    assert records[0].deadline - records[0].started == pytest.approx(TIMEOUT_MS / 1000)
