"""Exceptions while a version answers: they count against it, whichever step raises them."""

from __future__ import annotations

import threading

import pytest
from starlette.testclient import TestClient

from service.inference import engine as engine_module
from service.models.catalog import Catalog
from service.models.graphs import Graph
from service.models.head import Decision, Head
from service.models.loaded_model import Model
from service.models.preparation import TextTokenizer
from service.settings import Settings
from service.web.app import create_app
from tests.support.tiny import body
from tests.support.waiting import eventually

STEPS = {
    "tokenizer": (TextTokenizer, "tokenize"),
    "picture": (Model, "decode"),
    "graphs": (Graph, "run_on_device"),
    "head": (Head, "logits"),
    "scores": (Model, "decide"),
}
FAULTS = [RuntimeError("boom"), KeyError("label"), RuntimeError("Error in execution: running Gather node")]


@pytest.fixture
def client(shelf):
    shelf.publish("fruit")
    app = create_app(Settings(store=shelf.store.root, poll_seconds=0.02, intra_op_threads=1))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def failing():
    """`failing(owner, method, error)`: from now on the method raises; `failing()`: no more."""
    patches = pytest.MonkeyPatch()

    def start(owner: type | None = None, method: str = "", error: BaseException | None = None) -> None:
        patches.undo()
        if owner is not None:

            def raise_error(*_: object, **__: object) -> None:
                raise error

            patches.setattr(owner, method, raise_error)

    yield start
    patches.undo()


def ask(client, picture, **more: object) -> str | None:
    return client.post("/classify", json=body(picture, "both", "fruit", **more)).json().get("code")


def ask_batch(client, picture) -> str | None:
    inputs = [{key: value for key, value in body(picture, "both", "fruit").items() if key != "task"}]
    (cell,) = client.post("/classify/batch", json={"inputs": inputs, "tasks": ["fruit"]}).json()["results"][0]
    return cell.get("code")


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.slow
def test_a_version_that_fails_while_answering_is_unloaded(client, failing, picture, step, error, events):
    failing(*STEPS[step], error)

    for _ in range(5):
        assert ask(client, picture) == "internal"

    eventually(lambda: ask(client, picture) == "version_refused")
    assert {event["version"] for event in events if event["event"] == "model_refused"} == {1}


@pytest.mark.parametrize("step", STEPS)
def test_the_cells_of_batches_count_as_well(client, failing, picture, step):
    failing(*STEPS[step], RuntimeError("boom"))

    eventually(lambda: ask_batch(client, picture) in ("version_refused", "no_model", "unknown_task"))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.slow
def test_a_version_that_failed_for_an_unknown_reason_answers_again_when_that_has_passed(client, failing, picture, step):
    failing(*STEPS[step], RuntimeError("boom"))
    eventually(lambda: ask(client, picture) == "version_refused")

    failing()

    eventually(lambda: ask(client, picture) is None, 35)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), OSError(24, "Too many files")]
)
def test_a_version_stays_loaded_during_a_shortage(client, failing, picture, error, events):
    failing(Graph, "run_on_device", error)
    for _ in range(5):
        assert ask(client, picture) == "internal"
    eventually(lambda: [event for event in events if event["event"] == "model_not_rechecked"])

    assert ask(client, picture) == "internal"
    failing()
    assert ask(client, picture) is None


def test_a_failing_explanation_counts(client, picture, monkeypatch):
    def failing(*_: object) -> None:
        raise RuntimeError("boom")

    checked: list[Model] = []
    monkeypatch.setattr(engine_module, "explain", failing)
    monkeypatch.setattr(Catalog, "recheck", lambda _, model: checked.append(model))

    for _ in range(10):
        assert ask(client, picture, explain=True) == "internal"

    eventually(lambda: len(checked) == 2)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": "red", "image": "bm90IGEgcGljdHVyZQ=="}, "image_format"),
        ({"text": "red", "task": "other"}, "unknown_task"),
        ({"text": "red", "version": 9}, "unknown_version"),
    ],
)
def test_the_errors_of_clients_do_not_count(client, monkeypatch, fields, code):
    checked: list[Model] = []
    monkeypatch.setattr(Catalog, "recheck", lambda _, model: checked.append(model))

    for _ in range(12):
        assert client.post("/classify", json=fields).json()["code"] == code

    assert not checked


def test_one_check_of_a_version_runs_at_a_time(client, picture, failing, monkeypatch):
    let_go, checked = threading.Event(), []

    def slowly(_: Catalog, model: Model) -> None:
        checked.append(model)
        assert let_go.wait(60)

    monkeypatch.setattr(Catalog, "recheck", slowly)
    failing(Head, "logits", RuntimeError("boom"))
    for _ in range(30):
        ask(client, picture)

    assert len(checked) == 1
    let_go.set()
    eventually(lambda: ask(client, picture) == "internal" and len(checked) > 1)


def test_a_decision_with_a_score_out_of_range_counts(client, picture, monkeypatch):
    checked: list[Model] = []
    monkeypatch.setattr(Catalog, "recheck", lambda _, model: checked.append(model))
    decide = Model.decide

    def above_one(model: Model, features: object) -> Decision:
        return decide(model, features)._replace(scores=decide(model, features).scores + 2)

    monkeypatch.setattr(Model, "decide", above_one)
    for _ in range(5):
        assert ask(client, picture) == "internal"

    eventually(lambda: len(checked) == 1)
