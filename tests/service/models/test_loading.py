"""Loading a version: its precision, the parts that it shares with others, and the reasons to refuse it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime import RunOptions
from safetensors.numpy import save

from model_store import CorruptError, NotFoundError, Pattern, Precision, blob_of
from service.api.item import Item
from service.models.loading import Loader
from service.models.refusal import RefusedError
from service.settings import Settings

FP32, INT8, FP16 = Precision.FP32, Precision.INT8, Precision.FP16


def with_precision(draft, precision: Precision, scale: float = 1.2, error: float = 1.0):
    """The draft with a second set of graphs, with a text tail times `scale` and this recorded `error`."""
    graphs = draft.manifest.graphs[FP32]
    tail = onnx.load_model_from_string(draft.blobs[graphs.text_tail.sha256])
    for tensor in tail.graph.initializer:
        if tensor.name == "weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), "weight"))
    data = tail.SerializeToString()
    changes = {"text_tail": blob_of(data), "max_logit_error": dict.fromkeys(Pattern, error)}
    lower = graphs.model_copy(update={**changes, "metric_change": dict.fromkeys(Pattern, -0.25)})
    both = replace(draft, blobs={**draft.blobs, blob_of(data).sha256: data})
    return both.replacing(graphs={**draft.manifest.graphs, precision: lower})


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch):
    monkeypatch.setattr("service.models.loading.has_cuda", lambda: False)


@pytest.mark.parametrize(("asked", "served"), [("auto", "int8"), ("fp32", "fp32"), ("int8", "int8")])
def test_the_served_precision_is_shown_and_answers(shelf, serve, oracle, sample, asked, served):
    shelf.publish_draft(with_precision(shelf.draft(), INT8))
    client = serve(shelf.store, precision=asked)

    labels = client.post("/classify", json={"text": "red"}).json()["labels"]

    exact = oracle("fruit", 1).scores(None, "red")
    equal = {label["label"]: label["score"] for label in labels} == pytest.approx(exact, abs=1e-5)
    assert equal == (served == "fp32")
    assert client.get("/tasks").json()["tasks"][0]["precision"] == served
    series = f'mora_model_info{{backbone="tiny/clip",precision="{served}",task="fruit",version="1"}}'
    assert sample(client, series) == 1


def test_the_old_version_answers_if_the_new_one_lacks_the_named_precision(shelf, serve, events):
    shelf.publish_draft(with_precision(shelf.draft(seed=1), INT8))
    client = serve(shelf.store, precision="int8")
    shelf.publish(seed=2)

    pinned = client.post("/classify", json={"text": "red", "version": 2})

    assert (pinned.status_code, pinned.json()["code"]) == (503, "version_refused")
    assert client.post("/classify", json={"text": "red"}).json()["version"] == 1
    assert {event["reason"] for event in events if event["event"] == "model_refused"} == {"precision"}


def test_graphs_with_larger_errors_than_at_the_export_are_refused(shelf, serve, events):
    shelf.publish_draft(with_precision(shelf.draft(), INT8, scale=1.5, error=0.01))

    client = serve(shelf.store)

    assert client.get("/readyz").status_code == 503
    (refusal,) = [event for event in events if event["event"] == "model_refused"]
    assert refusal["reason"] == "golden_mismatch"
    assert "int8 logits" in refusal["problem"]
    assert refusal["problem"].endswith(
        "more than 0.02; if the export ran on another kind of processor, set MORA_PRECISION to fp32"
    )


def test_a_version_with_inexact_int8_graphs_is_served_in_fp32(shelf, serve):
    shelf.publish_draft(with_precision(shelf.draft(), INT8, scale=1.5, error=0.01))

    assert serve(shelf.store, precision="fp32").get("/readyz").status_code == 200


def loader(shelf) -> Loader:
    return Loader(shelf.store, Settings(store=shelf.store.root))


def test_a_loaded_version_gives_the_logits_of_its_export(shelf, oracle, pixels, picture):
    shelf.publish("tags", seed=2)

    model = loader(shelf).load("tags", 1)

    logits = model.golden_logits(Item(picture, "red"), RunOptions())
    np.testing.assert_allclose(logits, oracle("tags", 2).logits(pixels, "red"), rtol=1e-4, atol=1e-4)
    assert (model.manifest.task, model.manifest.version, model.precision) == ("tags", 1, FP32)


def test_versions_share_the_graphs_and_the_tokenizer_that_they_have_in_common(shelf):
    for seed in (1, 2):
        shelf.publish(seed=seed)
    opening = loader(shelf)

    first, second = opening.load("fruit", 1), opening.load("fruit", 2)

    assert first.image_tower.trunk is second.image_tower.trunk
    assert first.tokenizer is second.tokenizer
    assert first.image_tower.tail != second.image_tower.tail
    assert len(opening.graphs) == 2 + 2 * 2


@pytest.mark.parametrize(("seeds", "tails"), [((1, 2), 2), ((2, 1, 3), 3), ((1, 1), 1)])
def test_versions_share_tails_whose_weights_are_inputs(shelf, oracle, pixels, picture, seeds, tails):
    for seed in seeds:
        shelf.publish_draft(shelf.draft(seed=seed, adapted=True))
    opening = loader(shelf)

    models = [opening.load("fruit", version) for version in range(1, len(seeds) + 1)]

    for model, seed in zip(models, seeds, strict=True):
        logits = model.golden_logits(Item(picture, "red"), RunOptions())
        np.testing.assert_allclose(logits, oracle("fruit", seed).logits(pixels, "red"), rtol=1e-4, atol=1e-4)
    assert len(opening.graphs) == 4
    for tower in ("image", "text"):
        assert len({model.towers[tower].tail for model in models}) == tails


def with_weights(draft, name: str, tensors: dict | bytes | None):
    """The draft with another file of weights, or without."""
    data = tensors if isinstance(tensors, bytes) else save(tensors or {})
    graphs = draft.manifest.graphs[FP32].model_copy(update={name: None if tensors is None else blob_of(data)})
    return replace(draft.replacing(graphs={FP32: graphs}), blobs={**draft.blobs, blob_of(data).sha256: data})


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (None, "signature"),
        ({}, "signature"),
        ({"other": np.zeros((6, 8), np.float32)}, "signature"),
        ({"weight": np.zeros((6, 8), np.float32), "other": np.zeros((6, 8), np.float32)}, "signature"),
        ({"weight": np.zeros((6, 8), np.float64)}, "signature"),
        ({"weight": np.zeros((6, 8, 1), np.float32)}, "signature"),
        ({"weight": np.zeros((6, 7), np.float32)}, "golden_mismatch"),
        ({"weight": np.zeros((6, 8), np.float32)}, "golden_mismatch"),
        (b"no safetensors", "signature"),
    ],
)
def test_a_version_whose_weights_do_not_fit_its_tails_is_refused(shelf, tower, tensors, reason):
    shelf.publish_draft(with_weights(shelf.draft(adapted=True), f"{tower}_weights", tensors))
    with pytest.raises(RefusedError) as refusal:
        loader(shelf).load("fruit", 1)
    assert refusal.value.reason == reason


@pytest.mark.parametrize("tower", ["image", "text"])
def test_weights_that_no_tail_takes_are_refused(shelf, tower):
    tensors = {"weight": np.zeros((6, 8), np.float32)}
    shelf.publish_draft(with_weights(shelf.draft(), f"{tower}_weights", tensors))
    with pytest.raises(RefusedError) as refusal:
        loader(shelf).load("fruit", 1)
    assert refusal.value.reason == "signature"


def test_a_version_that_does_not_exist_is_not_found(shelf):
    shelf.publish()
    with pytest.raises(NotFoundError):
        loader(shelf).load("fruit", 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head": b"not safetensors"}, "head"),
        ({"golden": 0.5}, "golden_mismatch"),
        ({"tokenizer": b"not a tokenizer"}, "tokenizer"),
    ],
)
def test_an_intact_version_that_cannot_be_served_is_refused_with_its_reason(shelf, changes, reason):
    draft = shelf.draft()
    for name, value in changes.items():
        if name == "golden":
            example = draft.manifest.golden[0]
            wrong = example.model_copy(update={"logits": tuple(logit + value for logit in example.logits)})
            draft = draft.replacing(golden=(wrong, *draft.manifest.golden[1:]))
            continue
        blob = blob_of(value)
        field = {"text": draft.manifest.text.model_copy(update={name: blob})} if name == "tokenizer" else {name: blob}
        draft = replace(draft.replacing(**field), blobs={**draft.blobs, blob.sha256: value})
    shelf.publish_draft(draft)

    with pytest.raises(RefusedError) as caught:
        loader(shelf).load("fruit", 1)

    assert caught.value.reason == reason


@pytest.mark.parametrize("part", ["image_trunk", "text_tail", "head", "tokenizer"])
def test_a_version_with_an_incomplete_file_is_refused_before_a_graph_is_opened(shelf, monkeypatch, part):
    manifest = shelf.publish("fruit")
    blobs = {**manifest.graphs[FP32].blobs(), "head": manifest.head, "tokenizer": manifest.text.tokenizer}
    (shelf.store.root / "blobs/sha256" / blobs[part].sha256).write_bytes(b"x")
    monkeypatch.setattr("service.models.loading.Graph", None)

    with pytest.raises(CorruptError) as caught:
        Loader(shelf.store, Settings(store=shelf.store.root)).load("fruit", 1)

    assert caught.value.reason == "size"
