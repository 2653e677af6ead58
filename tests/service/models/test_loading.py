"""Which precision of a version answers, and what becomes of one that lacks it or does not keep it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from model_store import Pattern, Precision, blob_of
from service.models.loading import choose_precision
from service.models.refusal import RefusedError

FP32, INT8, FP16 = Precision.FP32, Precision.INT8, Precision.FP16


def with_precision(draft, precision: Precision, scale: float = 1.2, error: float = 1.0):
    """The draft with a second set of graphs, whose text tail differs as far as it says, or further."""
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


@pytest.mark.parametrize(
    ("available", "on_gpu", "chosen"),
    [
        ([FP32], False, FP32),
        ([FP32], True, FP32),
        ([FP32, INT8], False, INT8),
        ([FP32, INT8], True, FP32),
        ([FP32, FP16], False, FP32),
        ([FP32, FP16], True, FP16),
        ([FP32, INT8, FP16], False, INT8),
        ([FP32, INT8, FP16], True, FP16),
    ],
)
def test_auto_takes_the_fastest_for_the_device(available, on_gpu, chosen):
    assert choose_precision(available, "auto", on_gpu) is chosen


@pytest.mark.parametrize("asked", list(Precision))
@pytest.mark.parametrize("on_gpu", [False, True])
def test_an_asked_precision_is_that_one_on_any_device(asked, on_gpu):
    assert choose_precision(list(Precision), asked, on_gpu) is asked


def test_a_version_without_the_asked_one_is_refused_and_the_cure_named():
    with pytest.raises(RefusedError, match="has fp16 and fp32, not int8; set MORA_PRECISION to auto") as raised:
        choose_precision([FP32, FP16], "int8", False)
    assert raised.value.reason == "precision"


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


def test_a_version_without_the_asked_precision_leaves_the_old_one_answering(shelf, serve, events):
    shelf.publish_draft(with_precision(shelf.draft(seed=1), INT8))
    client = serve(shelf.store, precision="int8")
    shelf.publish(seed=2)

    pinned = client.post("/classify", json={"text": "red", "version": 2})

    assert (pinned.status_code, pinned.json()["code"]) == (503, "version_refused")
    assert client.post("/classify", json={"text": "red"}).json()["version"] == 1
    assert {event["reason"] for event in events if event["event"] == "model_refused"} == {"precision"}


def test_graphs_that_are_further_off_than_at_export_are_refused(shelf, serve, events):
    shelf.publish_draft(with_precision(shelf.draft(), INT8, scale=1.5, error=0.01))

    client = serve(shelf.store)

    assert client.get("/readyz").status_code == 503
    (refusal,) = [event for event in events if event["event"] == "model_refused"]
    assert refusal["reason"] == "golden_mismatch"
    assert "int8 logits" in refusal["problem"]
    assert "more than 0.02; if this processor" in refusal["problem"]
    assert "set MORA_PRECISION to fp32" in refusal["problem"]


def test_such_a_version_is_served_in_fp32(shelf, serve):
    shelf.publish_draft(with_precision(shelf.draft(), INT8, scale=1.5, error=0.01))

    assert serve(shelf.store, precision="fp32").get("/readyz").status_code == 200
