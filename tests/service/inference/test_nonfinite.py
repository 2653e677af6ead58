"""Answers that are not finite: they are counted, and the version is unloaded if a golden example fails."""

from __future__ import annotations

import numpy as np
import pytest

from service.models.head import Head
from tests.support.waiting import eventually

ITEM = {"task": "fruit", "text": "a red apple"}
NONFINITE = 'mora_nonfinite_total{task="fruit"}'


def code_of(response) -> str | None:
    return response.json().get("code")


@pytest.fixture
def break_heads(monkeypatch):
    """`break_heads()`: from now on every head gives NaN; `break_heads(False)`: no more."""
    sound = Head.logits

    def broken(head: Head, *features: np.ndarray | None) -> np.ndarray:
        return sound(head, *features) * np.nan

    return lambda broke=True: monkeypatch.setattr("service.models.head.Head.logits", broken if broke else sound)


@pytest.mark.parametrize("item", [ITEM, {**ITEM, "version": 1}])
def test_a_loaded_version_that_fails_its_golden_examples_is_unloaded(shelf, serve, sample, events, break_heads, item):
    shelf.publish("fruit")
    client = serve(shelf.store)
    break_heads()

    for _ in range(5):
        assert code_of(client.post("/classify", json=item)) == "model_nonfinite"

    eventually(lambda: code_of(client.post("/classify", json=item)) == "version_refused")
    assert sample(client, NONFINITE) >= 5
    assert sample(client, 'mora_model_loads_total{result="refused",task="fruit"}') == 1
    assert code_of(client.get("/readyz")) == "no_model"
    assert code_of(client.get("/tasks/fruit")) == "version_refused"
    assert [event["version"] for event in events if event["event"] == "model_refused"] == [1]
    assert "mora_model_info{" not in client.get("/metrics").text


def test_a_task_answers_again_after_another_version_is_published(shelf, serve, break_heads):
    shelf.publish("fruit")
    client = serve(shelf.store)
    break_heads()
    eventually(lambda: code_of(client.post("/classify", json=ITEM)) == "version_refused")
    break_heads(False)

    shelf.publish("fruit", seed=2)

    eventually(lambda: client.post("/classify", json=ITEM).json().get("version") == 2)
    assert client.get("/readyz").status_code == 200


def test_a_pinned_version_is_dropped_and_the_live_one_stays(shelf, serve, break_heads, monkeypatch):
    shelf.publish("fruit")
    shelf.publish("fruit", seed=2)
    client = serve(shelf.store)
    pinned = {**ITEM, "version": 1}
    assert client.post("/classify", json=pinned).status_code == 200
    old = client.app.state.engine.catalog.loaded("fruit", 1).head
    sound = Head.logits
    monkeypatch.setattr(
        "service.models.head.Head.logits",
        lambda head, *features: sound(head, *features) * (np.nan if head is old else 1),
    )

    eventually(lambda: code_of(client.post("/classify", json=pinned)) == "version_refused")

    assert client.post("/classify", json=ITEM).json()["version"] == 2


def test_a_version_stays_loaded_when_the_store_cannot_be_read(shelf, serve, break_heads):
    shelf.publish("fruit")
    client = serve(shelf.store)
    shelf.store.root.rename(shelf.store.root.with_name("away"))
    model = client.app.state.engine.catalog.live["fruit"]

    client.app.state.engine.catalog.recheck(model)

    assert client.post("/classify", json=ITEM).status_code == 200
