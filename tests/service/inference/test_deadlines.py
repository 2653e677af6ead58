"""A request's time: refused, dropped or stopped when it is over, or when its client has left."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from starlette.requests import ClientDisconnect

from service.models.loading import Loader
from service.web.cancel_on_disconnect import CancelOnDisconnect
from tests.support.counting import LONG, SHORT, counting_draft


@pytest.fixture
def counting(shelf, serve):
    """A service whose texts count."""
    shelf.publish_draft(counting_draft(shelf))
    return serve(shelf.store)


def ask(client, **fields: object) -> tuple[int, dict]:
    response = client.post("/classify", json=fields)
    return response.status_code, response.json()


def test_a_request_whose_time_is_over_while_it_waits_never_runs(shelf, serve, occupied, sample):
    shelf.publish()
    client = serve(shelf.store, encoder_workers=1)
    with occupied(client, "text"):
        status, problem = ask(client, text="red", timeout_ms=300)
    assert (status, problem["code"]) == (504, "deadline")
    assert sample(client, 'mora_deadline_total{stage="encoder"}') == 1
    assert sample(client, 'mora_rejected_total{reason="deadline"}') == 1
    assert ask(client, text="red")[0] == 200
    assert sample(client, 'mora_batch_size_sum{encoder="text"}') == 2  # this one, and what occupied the encoder


def test_a_run_that_outlasts_its_request_is_stopped_and_the_session_goes_on(counting, sample):
    assert ask(counting, text=SHORT)[0] == 200
    start = time.monotonic()
    status, problem = ask(counting, text=LONG, timeout_ms=300)
    assert (status, problem["code"]) == (504, "deadline")
    assert ask(counting, text=SHORT)[0] == 200
    assert time.monotonic() - start < 20
    assert sample(counting, 'mora_deadline_total{stage="encoder"}') == 1


INFER = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red"]}]}


@pytest.fixture
def slow_to_pin(shelf, serve, monkeypatch):
    """A service of two versions, the first of which is live no more and takes long to load; `let_go` ends that."""
    for seed in (1, 2):
        shelf.publish(seed=seed)
    client = serve(shelf.store, timeout_ms=200)
    let_go = threading.Event()
    load = Loader.load

    def slowly(self, task, version):
        assert let_go.wait(60)
        return load(self, task, version)

    monkeypatch.setattr(Loader, "load", slowly)
    yield client, let_go
    let_go.set()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/classify", {"text": "red", "version": 1}),
        ("POST", "/v2/models/fruit/versions/1/infer", INFER),
        ("GET", "/v2/models/fruit/versions/1", None),
        ("GET", "/v2/models/fruit/versions/1/ready", None),
    ],
)
def test_a_version_that_loads_too_long_is_not_waited_for(slow_to_pin, sample, method, path, body):
    client, let_go = slow_to_pin
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["code"]) == (504, "deadline")
    assert sample(client, 'mora_deadline_total{stage="loading"}') == 1
    let_go.set()
    until = time.monotonic() + 30
    while (response := client.request(method, path, json=body)).status_code == 504:  # the load went on without it
        assert time.monotonic() < until
    assert response.status_code == 200


def test_the_default_is_a_setting_and_a_request_may_ask_for_less_or_more(shelf, serve, occupied):
    shelf.publish()
    client = serve(shelf.store, timeout_ms=300, encoder_workers=1)
    with occupied(client, "text"):
        assert ask(client, text="red")[1]["code"] == "deadline"
        batch = client.post("/classify/batch", json={"inputs": [{"text": "red"}], "tasks": ["fruit"]})
    assert batch.json()["results"][0][0]["code"] == "deadline"
    for wrong in (0, -1, 600_001, "soon", 1.5):
        assert ask(client, text="red", timeout_ms=wrong)[1]["code"] == "bad_value"


def test_a_version_whose_golden_examples_do_not_end_is_refused(shelf, serve, monkeypatch, events):
    monkeypatch.setattr("service.models.loading._GOLDEN_SECONDS", 0.3)
    draft = counting_draft(shelf)
    examples = tuple(
        example.model_copy(update={"text": LONG} if example.text else {}) for example in draft.manifest.golden
    )
    shelf.publish()
    client = serve(shelf.store)

    shelf.publish_draft(draft.replacing(golden=examples))

    until = time.monotonic() + 30
    while not (refused := [event for event in events if event["event"] == "model_refused"]):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert refused[0]["reason"] == "golden_mismatch"
    assert ask(client, text="red")[1]["version"] == 1


def test_what_a_client_that_left_asked_for_is_cancelled():
    cancelled = asyncio.Event()

    async def endless(scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def scenario() -> None:
        messages = [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "body": b"b"},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict:
            return messages.pop(0)

        with pytest.raises(ClientDisconnect):
            await CancelOnDisconnect(endless)({"type": "http", "method": "POST"}, receive, None)
        assert cancelled.is_set()

    asyncio.run(asyncio.wait_for(scenario(), 10))


LAST = {"type": "http.response.body", "body": b"answered"}


@pytest.mark.parametrize("outcome", ["answered", ZeroDivisionError])
def test_a_handler_that_ends_first_is_left_alone(outcome):
    async def app(scope, receive, send) -> None:
        await receive()
        await send(LAST)
        if outcome is ZeroDivisionError:
            raise ZeroDivisionError

    async def scenario() -> None:
        sent: list[object] = []
        stays = asyncio.Event()
        messages = [{"type": "http.request", "body": b"all"}]

        async def receive() -> dict:
            if not messages:
                await stays.wait()
            return messages.pop(0)

        async def send(message: object) -> None:
            sent.append(message)

        answered = CancelOnDisconnect(app)({"type": "http", "method": "POST"}, receive, send)
        if outcome is ZeroDivisionError:
            with pytest.raises(ZeroDivisionError):
                await answered
        else:
            await answered
        assert sent == [LAST]

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_what_is_around_a_handler_goes_on_before_anything_else_does():
    """A count that comes after the answer must be there before the client's next request is looked at."""
    order: list[str] = []

    async def app(scope, receive, send) -> None:
        await receive()
        await send(LAST)

    async def scenario() -> None:
        messages = [{"type": "http.request", "body": b"all"}]

        async def receive() -> dict:
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message: object) -> None:
            asyncio.get_running_loop().call_soon(order.append, "the next request")

        await CancelOnDisconnect(app)({"type": "http", "method": "POST"}, receive, send)
        order.append("counted")
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert order == ["counted", "the next request"]
