"""Deadlines: a request past its deadline is refused, dropped from the queue or stopped.

Covers service.inference.engine, service.inference.encoders, service.inference.deadline.
"""

from __future__ import annotations

import threading
import time

import pytest

from service.models.loading import Loader
from service.models.refusal import RefusedError
from service.settings import Settings
from tests.support.counting import LONG, SHORT, counting_draft


@pytest.fixture
def counting(shelf, serve):
    """A service whose texts count."""
    shelf.publish_draft(counting_draft(shelf))
    return serve(shelf.store)


def ask(client, **fields: object) -> tuple[int, dict]:
    response = client.post("/classify", json=fields)
    return response.status_code, response.json()


def test_a_request_that_reaches_its_deadline_in_the_queue_never_runs(shelf, serve, occupied, sample):
    shelf.publish()
    client = serve(shelf.store, encoder_workers=1)
    with occupied(client, "text"):
        status, problem = ask(client, text="red", timeout_ms=300)
    assert (status, problem["code"]) == (504, "deadline")
    assert sample(client, 'mora_deadline_total{stage="encoder"}') == 1
    assert sample(client, 'mora_rejected_total{reason="deadline"}') == 1
    assert ask(client, text="red")[0] == 200
    assert (
        sample(client, 'mora_batch_size_sum{encoder="text"}') == 2
    )  # this text and the input that occupied the encoder


def test_a_run_past_the_deadline_is_stopped_and_the_session_continues(counting, sample):
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
def test_a_version_that_loads_too_long_is_a_missed_deadline(slow_to_pin, sample, method, path, body):
    client, let_go = slow_to_pin
    response = client.request(method, path, json=body)
    assert (response.status_code, response.json()["code"]) == (504, "deadline")
    assert sample(client, 'mora_deadline_total{stage="loading"}') == 1
    let_go.set()
    until = time.monotonic() + 30
    while (response := client.request(method, path, json=body)).status_code == 504:  # the load went on without it
        assert time.monotonic() < until
    assert response.status_code == 200


def test_the_default_deadline_is_a_setting_and_a_request_may_set_another(shelf, serve, occupied):
    shelf.publish()
    client = serve(shelf.store, timeout_ms=1_500, encoder_workers=1)  # long enough to reach the queue on a slow machine
    with occupied(client, "text"):
        assert ask(client, text="red")[1]["code"] == "deadline"
        batch = client.post("/classify/batch", json={"inputs": [{"text": "red"}], "tasks": ["fruit"]})
    assert batch.json()["results"][0][0]["code"] == "deadline"
    for invalid in (0, -1, 600_001, "soon", 1.5):
        assert ask(client, text="red", timeout_ms=invalid)[1]["code"] == "bad_value"


def test_a_version_whose_golden_examples_take_too_long_is_refused_for_now(shelf):
    draft = counting_draft(shelf)
    examples = tuple(
        example.model_copy(update={"text": LONG} if example.text else {}) for example in draft.manifest.golden
    )
    shelf.publish_draft(draft.replacing(golden=examples))

    with pytest.raises(RefusedError) as refusal:
        Loader(shelf.store, Settings(store=shelf.store.root), golden_seconds=0.3).load("fruit", 1)

    assert refusal.value.reason == "load"
    assert "takes over 0.3 seconds" in str(refusal.value)
