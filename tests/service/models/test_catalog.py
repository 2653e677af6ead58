"""Following the store while serving: publish, activate, refuse, and a store that disappears."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load, save

from model_store import GoldenExample, Store, activate, blob_of, prune, rollback, withdraw
from model_store.signing import make_key_pair
from service.api.answers import Refusal
from service.errors import ServiceError
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.support.waiting import eventually


def version(client, task: str = "fruit") -> int | None:
    response = client.post("/classify", json={"task": task, "text": "red"})
    return response.json().get("version")


def refusals(events) -> list[str]:
    return [event["reason"] for event in events if event["event"] == "model_refused"]


def test_a_published_version_takes_over_without_a_restart(shelf, serve, oracle, sample):
    shelf.publish(seed=1)
    client = serve(shelf.store)
    assert version(client) == 1

    shelf.publish(seed=2)
    eventually(lambda: version(client) == 2)

    labels = client.post("/classify", json={"text": "red"}).json()["labels"]
    scores = {label["label"]: label["score"] for label in labels}
    assert scores == pytest.approx(oracle("fruit", 2).scores(None, "red"), abs=1e-5)
    identity = 'precision="fp32",task="fruit",version="{}"'
    assert sample(client, f'mora_model_info{{backbone="tiny/clip",{identity.format(2)}}}') == 1
    assert 'version="1"' not in client.get("/metrics").text

    rollback(shelf.store, "fruit")
    eventually(lambda: version(client) == 1)


def test_a_task_that_is_withdrawn_during_a_lookup_is_found_or_unknown(shelf):
    """`refusal` is called between the reads of the mapping, as another thread may run there."""
    shelf.publish("fruit")
    catalog = Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 1)
    catalog.refresh()

    class Vanishing(dict):
        """The mapping that is live, which is replaced as soon as it was asked for a task."""

        def __contains__(self, task: object) -> bool:
            catalog.live = {}
            return super().__contains__(task)

    catalog.live = Vanishing(catalog.live)

    assert catalog.find("fruit").manifest.task == "fruit"


def test_a_task_published_later_is_picked_up(shelf, serve):
    client = serve(shelf.store)
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").json()["code"] == "no_model"
    assert client.post("/classify", json={"text": "red"}).json()["code"] == "no_model"
    assert client.get("/tasks").json() == {"tasks": []}

    shelf.publish("fruit")
    eventually(lambda: client.get("/readyz").status_code == 200)
    shelf.publish("tags")
    eventually(lambda: version(client, "tags") == 1)
    assert [task["task"] for task in client.get("/tasks").json()["tasks"]] == ["fruit", "tags"]


def test_a_withdrawn_task_is_unknown_until_it_is_activated(shelf, serve, sample, events):
    shelf.publish("fruit", seed=1)
    shelf.publish("fruit", seed=2)
    shelf.publish("tags")
    client = serve(shelf.store)
    assert client.post("/classify", json={"task": "fruit", "version": 1, "text": "red"}).status_code == 200

    withdraw(shelf.store, "fruit")

    def answer(**fields: object) -> tuple[int, str | None]:
        response = client.post("/classify", json={"task": "fruit", "text": "red", **fields})
        return response.status_code, response.json().get("code")

    eventually(lambda: answer() == (404, "unknown_task"))
    assert answer(version=1) == answer(version=2) == (404, "unknown_task")
    assert client.get("/tasks/fruit").status_code == 404
    assert [task["task"] for task in client.get("/tasks").json()["tasks"]] == ["tags"]
    assert 'mora_model_info{backbone="tiny/clip",precision="fp32",task="fruit"' not in client.get("/metrics").text
    assert [event["version"] for event in events if event["event"] == "task_withdrawn"] == [2]
    shelf.publish("fruit", seed=3)
    assert version(client, "tags") == 1
    assert answer() == (404, "unknown_task")

    activate(shelf.store, "fruit", 1)
    eventually(lambda: version(client) == 1)


def test_loaded_versions_answer_when_the_store_or_a_task_disappears(shelf, serve):
    shelf.publish("fruit")
    shelf.publish("tags")
    client = serve(shelf.store)
    away = shelf.store.root.with_name("away")
    shelf.store.root.rename(away)
    time.sleep(0.2)
    assert version(client) == version(client, "tags") == 1
    assert client.get("/readyz").status_code == 200
    assert client.post("/classify", json={"task": "fruit", "text": "red", "version": 2}).status_code == 404

    away.rename(shelf.store.root)
    shelf.publish("fruit", seed=2)
    eventually(lambda: version(client) == 2)


def other_graph(onnx_graph, output: str = "image_features", rank: int = 2, kind: int = TensorProto.FLOAT) -> bytes:
    return onnx_graph(
        {"image_hidden": (kind, ["B", 3, 6])},
        {output: (kind, ["B", 6] if rank == 2 else ["B", 1, 6])},
        [("ReduceMean", ["image_hidden", "axis"], {"keepdims": rank - 2})],
        {"axis": np.array([1])},
    )


def with_head(draft, change) -> object:
    tensors = change(load(draft.blobs[draft.manifest.head.sha256]))
    data = save(tensors)
    return replace(
        draft.replacing(head=blob_of(data)),
        blobs={**draft.blobs, blob_of(data).sha256: data},
    )


def with_tokenizer(draft, data: bytes):
    text = draft.manifest.text.model_copy(update={"tokenizer": blob_of(data)})
    return replace(draft.replacing(text=text), blobs={**draft.blobs, blob_of(data).sha256: data})


def wrong_golden(draft):
    first = draft.manifest.golden[0]
    moved = GoldenExample(**{**first.model_dump(), "logits": (first.logits[0] + 0.01, *first.logits[1:])})
    return draft.replacing(golden=(moved, *draft.manifest.golden[1:]))


def external_weights() -> bytes:
    tensor = TensorProto(name="axis", data_type=TensorProto.INT64, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("ReduceMean", ["image_hidden", "axis"], ["image_features"], keepdims=0)
    proto = helper.make_graph(
        [node],
        "external",
        [helper.make_tensor_value_info("image_hidden", TensorProto.FLOAT, ["B", 3, 6])],
        [helper.make_tensor_value_info("image_features", TensorProto.FLOAT, ["B", 6])],
        [tensor],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


BAD = {
    "graph that is no ONNX": ("signature", lambda d, g: d.replacing_graph("image_tail", b"no graph")),
    "other output name": ("signature", lambda d, g: d.replacing_graph("image_tail", other_graph(g, "features"))),
    "other rank": ("signature", lambda d, g: d.replacing_graph("image_tail", other_graph(g, rank=3))),
    "other type": (
        "signature",
        lambda d, g: d.replacing_graph("image_tail", other_graph(g, kind=TensorProto.DOUBLE)),
    ),
    "graphs swapped": ("signature", lambda d, g: d.replacing_graph("text_tail", other_graph(g))),
    "weights in another file": ("signature", lambda d, g: d.replacing_graph("image_tail", external_weights())),
    "feature size": ("golden_mismatch", lambda d, g: d.replacing_graph("image_tail", other_graph(g))),
    "tokenizer": ("tokenizer", lambda d, g: with_tokenizer(d, b'{"version": "1.0"}')),
    "tokenizer not UTF-8": ("tokenizer", lambda d, g: with_tokenizer(d, b"\xff")),
    "head tensor missing": ("head", lambda d, g: with_head(d, lambda t: {"both.bias": t["both.bias"]})),
    "head not finite": (
        "golden_mismatch",
        lambda d, g: with_head(d, lambda t: {n: a * np.float32(np.nan) for n, a in t.items()}),
    ),
    "head of other weights": ("golden_mismatch", lambda d, g: with_head(d, lambda t: {n: a + 1 for n, a in t.items()})),
    "golden logits": ("golden_mismatch", lambda d, g: wrong_golden(d)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.slow
def test_a_bad_version_is_refused_once_and_the_old_one_answers(
    shelf, serve, events, sample, onnx_graph, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    np.array([1]).tofile(tmp_path / "weights.bin")
    reason, damage = BAD[name]
    shelf.publish(seed=1)
    client = serve(shelf.store)
    before = client.post("/classify", json={"text": "red"}).json()["labels"]

    shelf.publish_draft(damage(shelf.draft(seed=2), onnx_graph))
    eventually(lambda: refusals(events))
    time.sleep(0.15)

    assert refusals(events) == [reason]
    assert sample(client, 'mora_model_loads_total{result="refused",task="fruit"}') == 1
    answer = client.post("/classify", json={"text": "red"}).json()
    assert (answer["version"], answer["labels"]) == (1, before)
    pinned = client.post("/classify", json={"text": "red", "version": 2})
    assert (pinned.status_code, pinned.json()["code"]) == (503, "version_refused")

    shelf.publish(seed=3)
    eventually(lambda: version(client) == 3)


def test_a_refusal_is_shown_until_an_intact_version_is_live(shelf, serve, sample):
    shelf.publish(seed=1)
    client = serve(shelf.store)

    def refused() -> dict | None:
        return client.get("/tasks/fruit").json()["refused"]

    assert refused() is None
    assert 'mora_model_refused{task="fruit"} 0.0' in client.get("/metrics").text

    shelf.publish_draft(wrong_golden(shelf.draft(seed=2)))
    eventually(lambda: refused() == {"version": 2, "reason": "golden_mismatch"})
    assert client.get("/tasks/fruit").json()["version"] == 1
    eventually(lambda: sample(client, 'mora_model_refused{task="fruit"}') == 1)
    (shelf.store.root / "tasks/fruit/live").write_text("nonsense")
    eventually(lambda: refused() == {"version": None, "reason": "manifest"})
    (shelf.store.root / "tasks/fruit/live").write_text("1")
    eventually(lambda: refused() is None)
    eventually(lambda: sample(client, 'mora_model_refused{task="fruit"}') == 0)

    shelf.publish_draft(wrong_golden(shelf.draft(seed=2)))
    eventually(lambda: refused() == {"version": 3, "reason": "golden_mismatch"})
    shelf.publish(seed=3)
    eventually(lambda: refused() is None)
    eventually(lambda: sample(client, 'mora_model_refused{task="fruit"}') == 0)
    assert version(client) == 4


def test_a_refused_pinned_version_is_not_shown_as_the_live_one(shelf, serve):
    shelf.publish_draft(wrong_golden(shelf.draft(seed=1)))
    shelf.publish(seed=2)
    client = serve(shelf.store)

    assert client.post("/classify", json={"text": "red", "version": 1}).json()["code"] == "version_refused"
    assert client.get("/tasks/fruit").json()["refused"] is None


def test_a_task_whose_only_version_was_refused_has_its_own_error(shelf, serve):
    shelf.publish_draft(wrong_golden(shelf.draft(seed=1)))
    client = serve(shelf.store)
    for response in (client.get("/tasks/fruit"), client.post("/classify", json={"task": "fruit", "text": "red"})):
        assert (response.status_code, response.json()["code"]) == (503, "version_refused")
        detail = "Its live version failed its checks (golden_mismatch); activate another one."
        assert response.json()["detail"] == detail
    assert client.post("/classify", json={"text": "red"}).json()["code"] == "no_model"
    assert client.get("/tasks/other").json()["code"] == "no_model"

    shelf.publish("tags")
    eventually(lambda: version(client, "tags") == 1)
    assert client.get("/tasks/fruit").json()["code"] == "version_refused"
    assert client.get("/tasks/other").json()["code"] == "unknown_task"


def test_a_damaged_file_is_refused_with_the_reason_of_the_store(shelf, serve, events):
    shelf.publish(seed=1)
    draft = shelf.draft(seed=2)
    shelf.publish_draft(draft)
    rollback(shelf.store, "fruit")
    client = serve(shelf.store)
    tail = shelf.store.root / "blobs/sha256" / draft.manifest.graphs["fp32"].image_tail.sha256
    tail.write_bytes(tail.read_bytes()[:-1] + b"?")

    (shelf.store.root / "tasks/fruit/live").write_text("2")

    eventually(lambda: refusals(events) == ["sha256"])
    assert version(client) == 1


def test_a_version_with_an_unreadable_file_is_loaded_later(shelf):
    draft = shelf.draft(seed=1)
    shelf.publish_draft(draft)
    settings = Settings(store=shelf.store.root)
    catalog = Catalog(shelf.store, Loader(shelf.store, settings), Metrics(), 2, retry_seconds=0)
    head = shelf.store.root / "blobs/sha256" / draft.manifest.head.sha256
    away = head.rename(shelf.store.root / "away")

    catalog.refresh()
    assert not catalog.live

    away.rename(head)
    catalog.refresh()
    assert catalog.live["fruit"].manifest.version == 1


@pytest.mark.parametrize(("content", "reason"), [("nonsense", "manifest"), ("7", "missing")])
def test_a_pointer_to_no_version_is_refused(shelf, serve, events, content, reason):
    shelf.publish(seed=1)
    client = serve(shelf.store)
    (shelf.store.root / "tasks/fruit/live").write_text(content)
    eventually(lambda: refusals(events) == [reason])
    assert version(client) == 1


def swap(shelf, draft) -> None:
    """Put another store in the place of this one, whose version 1 is this draft."""
    shelf.store.root.rename(shelf.store.root.with_name("away"))
    shelf.publish_draft(draft)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_another_store_with_the_same_number_takes_over(shelf, serve, oracle, is_pinned):
    shelf.publish(seed=1)
    if is_pinned:
        shelf.publish(seed=3)
    client = serve(shelf.store)

    def scores() -> dict[str, float]:
        answer = client.post("/classify", json={"text": "red", "version": 1}).json()
        return {label["label"]: label["score"] for label in answer.get("labels", ())}

    assert scores() == pytest.approx(oracle("fruit", 1).scores(None, "red"), abs=1e-5)
    swap(shelf, shelf.draft(seed=2))

    eventually(lambda: scores() == pytest.approx(oracle("fruit", 2).scores(None, "red"), abs=1e-5))


def test_a_version_that_was_refused_for_good_is_tried_again_if_its_manifest_changes(shelf, serve, events):
    shelf.publish_draft(wrong_golden(shelf.draft(seed=1)))
    client = serve(shelf.store)
    assert refusals(events) == ["golden_mismatch"]

    swap(shelf, shelf.draft(seed=1))

    eventually(lambda: version(client) == 1)


def test_a_manifest_that_is_written_anew_with_the_same_content_changes_nothing(shelf, serve, events):
    shelf.publish(seed=1)
    catalog = serve(shelf.store).app.state.engine.catalog
    before = catalog.live["fruit"]
    manifest = shelf.store.root / "tasks/fruit/1/manifest.json"
    content = manifest.read_bytes()

    manifest.write_bytes(content[:100])
    eventually(lambda: catalog.refusal("fruit"))
    manifest.write_bytes(content)
    eventually(lambda: catalog.refusal("fruit") is None)

    assert catalog.live["fruit"] is before
    assert [event["event"] for event in events].count("model_loaded") == 1


def untrusted_after(shelf, tmp_path, published: int, pinned: int | None) -> Catalog:
    """A catalog after a reread of trusted keys, none of which signed anything."""
    for seed in range(1, published + 1):
        shelf.publish(seed=seed)
    make_key_pair(tmp_path / "key", tmp_path / "key.pub")
    catalog = Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 2)
    catalog.refresh()
    if pinned is not None:
        catalog.pinned("fruit", pinned)
    catalog.reread(tmp_path / "key.pub")
    return catalog


@pytest.mark.parametrize(("published", "pinned"), [(1, None), (2, 1), (3, 2)])
def test_versions_that_no_trusted_key_signed_are_unloaded_by_a_reread(shelf, tmp_path, published, pinned):
    catalog = untrusted_after(shelf, tmp_path, published, pinned)

    assert catalog.live == {}
    assert catalog.refusal("fruit") == Refusal(published, "untrusted")
    with pytest.raises(ServiceError):
        catalog.pinned("fruit", published)
    catalog.refresh()
    assert catalog.live == {}


def test_folders_that_are_not_tasks_are_ignored(shelf, serve, events):
    shelf.publish(seed=1)
    for name in ("Not A Task", "empty"):
        (shelf.store.root / "tasks" / name).mkdir()
    client = serve(shelf.store)
    assert [task["task"] for task in client.get("/tasks").json()["tasks"]] == ["fruit"]
    assert refusals(events) == []


def test_a_refused_version_leaves_memory_at_once(shelf):
    catalog = Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 2)
    shelf.publish(seed=1)
    catalog.refresh()
    shelf.publish_draft(wrong_golden(shelf.draft(seed=2, backbone_seed=1)))
    gc.collect()
    gc.disable()  # models are large: they must not wait for a collector of cycles
    try:
        catalog.refresh()
    finally:
        gc.enable()

    assert catalog.refusal("fruit") is not None
    assert len(catalog.loader.graphs) == 4


def test_two_tasks_of_one_backbone_share_its_trunks(shelf, serve):
    shelf.publish("fruit")
    shelf.publish("tags", seed=2)
    catalog = serve(shelf.store).app.state.engine.catalog
    fruit, tags = catalog.live["fruit"], catalog.live["tags"]
    assert fruit.image_tower.trunk is tags.image_tower.trunk
    assert fruit.text_tower.trunk is tags.text_tower.trunk
    assert fruit.image_tower.tail != tags.image_tower.tail
    assert len(catalog.loader.graphs) == 6


def test_graphs_that_no_loaded_version_uses_are_dropped(shelf, serve):
    shelf.publish(seed=1)
    client = serve(shelf.store)
    graphs = client.app.state.engine.catalog.loader.graphs
    assert len(graphs) == 4
    shelf.publish(seed=2)
    eventually(lambda: version(client) == 2)
    eventually(lambda: len(graphs) == 4)


def test_no_request_is_lost_or_mixes_versions_while_versions_change(shelf, serve, oracle):
    expected = {}
    for seed in (1, 2):
        expected[seed] = oracle("fruit", seed).scores(None, "a red apple")
    shelf.publish(seed=1)
    client = serve(shelf.store)

    def ask(_: int) -> dict:
        return client.post("/classify", json={"text": "a red apple"}).json()

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, number) for number in range(150)]
        for seed in (2, 1, 2, 1, 2):
            shelf.publish(seed=seed)
            time.sleep(0.04)
        answers = [answer.result() for answer in answers] + [ask(0)]
    for answer in answers:
        seed = 1 if answer["version"] in (1, 3, 5) else 2
        scores = {label["label"]: label["score"] for label in answer["labels"]}
        assert scores == pytest.approx(expected[seed], abs=1e-5)


@pytest.fixture
def slow_pins(shelf, serve, monkeypatch):
    """A service of fruit 2 and tags 1, which loads fruit 1 only once `let_go` is set."""
    for seed in (1, 2):
        shelf.publish("fruit", seed=seed)
    shelf.publish("tags")
    client = serve(shelf.store, queue_size=2, timeout_ms=30_000)
    let_go, load = threading.Event(), Loader.load

    def slowly(self, task, version):
        if (task, version) == ("fruit", 1):
            assert let_go.wait(60)
        return load(self, task, version)

    monkeypatch.setattr(Loader, "load", slowly)
    yield client, let_go
    let_go.set()


def pin(client, number: int = 1):
    return client.post("/classify", json={"task": "fruit", "version": number, "text": "red"})


def test_the_store_is_followed_while_versions_that_clients_pin_are_loading(shelf, slow_pins, events):
    client, let_go = slow_pins
    with ThreadPoolExecutor(5) as pool:
        pins = [pool.submit(pin, client) for _ in range(5)]  # one is loading, two wait, two are refused
        eventually(lambda: sum(each.done() for each in pins) == 2)
        shelf.publish("fruit", seed=3)
        eventually(lambda: version(client) == 3)
        rollback(shelf.store, "fruit")
        eventually(lambda: version(client) == 2)
        withdraw(shelf.store, "tags")
        eventually(lambda: version(client, "tags") is None)
        let_go.set()
        answers = sorted((each.result().status_code, each.result().json().get("code", "")) for each in pins)

    assert answers == [(200, "")] * 3 + [(503, "queue_full")] * 2
    assert not [event for event in events if event["event"] == "store_unreadable"]


def test_a_version_that_was_loading_when_its_task_was_withdrawn_is_not_kept(shelf, slow_pins):
    client, let_go = slow_pins
    catalog = client.app.state.engine.catalog
    with ThreadPoolExecutor(1) as pool:
        pinned = pool.submit(catalog.pinned, "fruit", 1)
        withdraw(shelf.store, "fruit")
        eventually(lambda: version(client) is None)
        let_go.set()
        assert pinned.result().manifest.version == 1

    assert catalog.loaded("fruit", 1) is None


def test_a_version_that_becomes_live_while_it_is_loading_is_kept_once(shelf, slow_pins):
    client, let_go = slow_pins
    catalog = client.app.state.engine.catalog
    with ThreadPoolExecutor(1) as pool:
        pinned = pool.submit(catalog.pinned, "fruit", 1)
        activate(shelf.store, "fruit", 1)
        let_go.set()
        eventually(lambda: version(client) == 1)
        model = pinned.result()

    assert catalog.loaded("fruit", 1) is catalog.live["fruit"]
    assert model.image_tower == catalog.live["fruit"].image_tower  # graphs are shared whichever thread opened them


def test_a_rollback_to_a_pinned_version_does_not_load_it_again(shelf, serve):
    for seed in (1, 2):
        shelf.publish("fruit", seed=seed)
    client = serve(shelf.store)
    assert pin(client).status_code == 200
    catalog = client.app.state.engine.catalog
    pinned = catalog.loaded("fruit", 1)

    rollback(shelf.store, "fruit")
    eventually(lambda: version(client) == 1)

    assert catalog.live["fruit"] is pinned
    assert pin(client).json()["version"] == 1


def test_a_pinned_version_that_cannot_be_read_does_not_disturb_the_live_one(shelf, serve, sample):
    draft = shelf.draft("fruit", seed=1)
    shelf.publish_draft(draft)
    shelf.publish("fruit", seed=2)
    client = serve(shelf.store)
    (shelf.store.root / "blobs/sha256" / draft.manifest.head.sha256).unlink()
    catalog = client.app.state.engine.catalog
    live = catalog.live["fruit"]

    assert pin(client).json()["code"] == "version_refused"

    assert catalog.live["fruit"] is live
    assert sample(client, 'mora_model_refused{task="fruit"}') == 0


def test_a_removed_version_is_unknown_and_a_loaded_one_goes_on(shelf, serve, events, sample):
    for seed in (1, 2, 3, 4):
        shelf.publish("fruit", seed=seed)
    client = serve(shelf.store, max_pinned_versions=1)
    assert pin(client).json()["version"] == 1
    before = len(events)

    prune(shelf.store, 1)
    time.sleep(0.2)  # ten looks at the store

    assert shelf.store.versions("fruit") == [3, 4]
    assert pin(client).json()["version"] == 1
    assert pin(client, 2).json()["code"] == pin(client, 99).json()["code"] == "unknown_version"
    assert [entry["version"] for entry in client.get("/tasks/fruit/versions").json()["versions"]] == [4, 3]
    assert version(client) == 4
    assert pin(client, 3).json()["version"] == 3  # and 1 is unloaded
    assert pin(client).json()["code"] == "unknown_version"
    assert {event["event"] for event in events[before:]} <= {"request", "model_pinned"}
    assert sample(client, 'mora_model_loads_total{result="refused",task="fruit"}') == 0
    shelf.publish("fruit", seed=5)
    eventually(lambda: version(client) == 5)


def test_a_version_that_is_removed_while_it_is_loading_is_unknown(shelf, serve, monkeypatch, events):
    for seed in (1, 2, 3):
        shelf.publish("fruit", seed=seed)
    client = serve(shelf.store)
    read = Store.manifest

    def read_then_remove(self, task, version=None):
        manifest = read(self, task, version)
        if version == 1:
            prune(shelf.store, 1)
        return manifest

    monkeypatch.setattr(Store, "manifest", read_then_remove)

    assert pin(client).json()["code"] == "unknown_version"
    assert refusals(events) == []
