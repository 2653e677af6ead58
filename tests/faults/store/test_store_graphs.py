"""Graphs that reach for other files or memory, that break their contract, or answer wrongly: a running service refuses
each and goes on with the version before. More signatures are in tests/service/models/test_catalog.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save

from model_store import blob_of
from tests.support.faults.asking import label, refusal
from tests.support.tiny import FEATURES, Shelf, TinyDraft, TinyTask
from tests.support.waiting import eventually

SEED = 2


def with_tail(draft: TinyDraft, model: onnx.ModelProto) -> TinyDraft:
    return draft.replacing_graph("image_tail", model.SerializeToString())


def tail_of(draft: TinyDraft) -> onnx.ModelProto:
    return onnx.load_from_string(draft.blobs[draft.manifest.graphs["fp32"].image_tail.sha256])


def move_out(tensor: TensorProto, **entries: object) -> None:
    """Keep the tensor's values in another file, where `entries` say."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


def weights_elsewhere(draft: TinyDraft, **entries: object) -> TinyDraft:
    model = tail_of(draft)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    move_out(weight, **entries)
    return with_tail(draft, model)


def constant_elsewhere(draft: TinyDraft, **entries: object) -> TinyDraft:
    """The same in the attribute of a node, which loaders of initializers pass over."""
    model = tail_of(draft)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    move_out(weight, **entries)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weight"], value=weight))
    model.graph.initializer.remove(weight)
    return with_tail(draft, model)


class Place:
    """A folder that the service runs in, with the true weights under every name that a graph may try."""

    def __init__(self, folder: Path) -> None:
        weights = TinyTask(seed=SEED).weights()["image_tail"].tobytes()
        self.size = len(weights)
        self.cwd = folder / "cwd"
        (self.cwd / "sub").mkdir(parents=True)
        for path in (folder / "weights.bin", self.cwd / "weights.bin", self.cwd / "sub/weights.bin"):
            path.write_bytes(weights)
        (self.cwd / "symlink.bin").symlink_to(folder / "weights.bin")
        (self.cwd / "hardlink.bin").hardlink_to(self.cwd / "sub/weights.bin")
        os.mkfifo(self.cwd / "fifo")


ELSEWHERE: dict[str, Callable[[Place], dict[str, object]]] = {
    "in the folder": lambda p: {"location": "weights.bin"},
    "./": lambda p: {"location": "./weights.bin"},
    ".": lambda p: {"location": "."},
    "..": lambda p: {"location": "..", "length": p.size},
    "../null": lambda p: {"location": "../null", "length": p.size},
    "a folder below": lambda p: {"location": "sub/weights.bin"},
    "../": lambda p: {"location": "../weights.bin"},
    "sub/../../": lambda p: {"location": "sub/../../weights.bin"},
    "absolute": lambda p: {"location": p.cwd / "weights.bin"},
    "a URL": lambda p: {"location": f"file://{p.cwd}/weights.bin"},
    "a symlink": lambda p: {"location": "symlink.bin"},
    "a hard link": lambda p: {"location": "hardlink.bin"},
    "a fifo": lambda p: {"location": "fifo"},
    "a device": lambda p: {"location": "/dev/zero"},
    "a system file": lambda p: {"location": "/etc/passwd", "length": p.size},
    "a negative offset": lambda p: {"location": "weights.bin", "offset": -8, "length": p.size},
    "a negative length": lambda p: {"location": "weights.bin", "length": -p.size},
    "a huge length": lambda p: {"location": "weights.bin", "length": 2**62},
    "an overflow": lambda p: {"location": "weights.bin", "offset": 2**63 - 1, "length": p.size},
    "no location": lambda p: {"length": p.size},
    "an empty location": lambda p: {"location": ""},
    "a NUL": lambda p: {"location": "weights.bin\0.txt"},
    "the runtime's own memory": lambda p: {"location": "*/_ORT_MEM_ADDR_/*", "offset": 4096, "length": p.size},
    "its memory in native order": lambda p: {
        "location": "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*",
        "offset": 4096,
        "length": p.size,
    },
}


def attack(shelf: Shelf, server: Callable, drafts: dict[str, TinyDraft]) -> dict[str, str]:
    """Publish each under a running service; the reasons it refused them for. Its answers stay as they were."""
    shelf.publish(seed=1)
    running = server(shelf.store)
    before, reasons = label(running), {}
    for name, draft in drafts.items():
        version = shelf.publish_draft(draft).version
        eventually(
            lambda version=version: (
                running.process.poll() is not None or (refusal(running) or {}).get("version") == version
            )
        )
        assert running.process.poll() is None, f"{name}: the service died"
        reasons[name] = refusal(running)["reason"]
        assert label(running) == before, name
    assert running.metric('mora_model_loads_total{result="refused",task="fruit"}') == len(drafts)

    good = shelf.publish(seed=SEED).version
    eventually(lambda: label(running)["version"] == good)
    return reasons


@pytest.mark.slow
def test_weights_outside_the_graph_are_refused(shelf, server, tmp_path, monkeypatch, reliability):
    place = Place(tmp_path / "place")
    monkeypatch.chdir(place.cwd)
    draft = shelf.draft(seed=SEED)
    drafts = {name: weights_elsewhere(draft, **entries(place)) for name, entries in ELSEWHERE.items()}
    drafts |= {f"{name}, in a node": constant_elsewhere(draft, **ELSEWHERE[name](place)) for name in ("absolute", "./")}

    reasons = attack(shelf, server, drafts)

    wrong = {name: reason for name, reason in reasons.items() if reason != "signature"}
    reliability(
        "a graph keeps its weights in another file (../, absolute, links, fifo, device, negative and huge lengths) or "
        "in the memory of the runtime",
        "refused as `signature`; the service lives and answers with the old version",
        f"{len(reasons)} fixtures, {len(wrong)} ended otherwise {wrong or ''}".rstrip(),
        reached=not wrong,
    )


def test_control_the_same_graph_with_its_weights_inside_is_served(shelf, server):
    draft = shelf.draft(seed=SEED)
    shelf.publish_draft(with_tail(draft, tail_of(draft)))

    assert label(server(shelf.store))["version"] == 1


def edited(draft: TinyDraft, edit: Callable[[onnx.ModelProto], object]) -> TinyDraft:
    """The right image tail with one thing changed."""
    model = tail_of(draft)
    edit(model)
    return with_tail(draft, model)


def take_one_at_a_time(model: onnx.ModelProto) -> None:
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1


def take_more(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["B"]))


def call(model: onnx.ModelProto, operator: str, domain: str) -> None:
    model.graph.node[-1].op_type, model.graph.node[-1].domain = operator, domain
    model.opset_import.append(helper.make_opsetid("evil", 1))


def changed(draft: TinyDraft, change: Callable[[np.ndarray], np.ndarray]) -> TinyDraft:
    """Another image tail's weights."""
    model = tail_of(draft)
    for tensor in model.graph.initializer:
        if tensor.name == "weight":
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), "weight"))
    return with_tail(draft, model)


def one(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(weights: np.ndarray) -> np.ndarray:
        weights[0, 0] = value
        return weights

    return change


def with_head(draft: TinyDraft, change: Callable[[str, np.ndarray], np.ndarray]) -> TinyDraft:
    tensors = load(draft.blobs[draft.manifest.head.sha256])
    data = save({name: np.ascontiguousarray(change(name, tensor)) for name, tensor in tensors.items()})
    blob = blob_of(data)
    return replace(draft.replacing(head=blob), blobs={**draft.blobs, blob.sha256: data})


FAULTY: dict[str, tuple[str, Callable[[TinyDraft], TinyDraft]]] = {
    "custom op": ("signature", lambda d: edited(d, lambda model: call(model, "MatMul", "evil"))),
    "unknown op": ("signature", lambda d: edited(d, lambda model: call(model, "Backdoor", ""))),
    "opset of the future": ("signature", lambda d: edited(d, lambda m: setattr(m.opset_import[0], "version", 999))),
    "IR of the future": ("signature", lambda d: edited(d, lambda model: setattr(model, "ir_version", 999))),
    "a second input": ("signature", lambda d: edited(d, take_more)),
    "batches of one only": ("signature", lambda d: edited(d, take_one_at_a_time)),
    "an input from nowhere": ("signature", lambda d: edited(d, lambda model: model.graph.node[0].input.pop(0))),
    "no graph": ("signature", lambda d: edited(d, lambda model: model.ClearField("graph"))),
    "NaN weights": ("golden_mismatch", lambda d: changed(d, lambda weights: weights * np.float32(np.nan))),
    "one NaN weight": ("golden_mismatch", lambda d: changed(d, one(np.nan))),
    "one infinite weight": ("golden_mismatch", lambda d: changed(d, one(np.inf))),
    "NaN head": ("golden_mismatch", lambda d: with_head(d, lambda name, tensor: tensor * np.float32(np.nan))),
    "weights of another training": ("golden_mismatch", lambda d: changed(d, lambda weights: weights[::-1].copy())),
    "two labels swapped": ("golden_mismatch", lambda d: with_head(d, lambda name, tensor: tensor[[1, 0, 2]])),
    "two labels swapped for texts only": (
        "golden_mismatch",
        lambda d: with_head(d, lambda name, tensor: tensor[[1, 0, 2]] if name.startswith("text") else tensor),
    ),
    "image and text columns swapped": (
        "golden_mismatch",
        lambda d: with_head(d, lambda name, t: np.roll(t, FEATURES, axis=1) if name.endswith("weight") else t),
    ),
}


def test_graphs_that_break_their_contract_or_answer_wrongly_are_refused(shelf, server, reliability):
    draft = shelf.draft(seed=SEED)

    reasons = attack(shelf, server, {name: make(draft) for name, (_, make) in FAULTY.items()})

    wrong = {name: reason for name, reason in reasons.items() if reason != FAULTY[name][0]}
    reliability(
        "versions with custom or unknown operators, opsets of the future, other inputs, NaN or infinite weights, "
        "swapped labels or columns",
        "refused as `signature` or `golden_mismatch`; the old version answers",
        f"{len(reasons)} fixtures, {len(wrong)} with another reason {wrong or ''}".rstrip(),
        reached=not wrong,
    )


@pytest.mark.parametrize("name", ["two labels swapped", "one NaN weight"])
def test_control_only_the_golden_examples_find_a_wrong_model_that_is_valid(shelf, server, monkeypatch, name):
    draft = FAULTY[name][1](shelf.draft(seed=SEED))
    swapped = [
        example.model_copy(update={"logits": (example.logits[1], example.logits[0], example.logits[2])})
        for example in draft.manifest.golden
    ]
    shelf.publish_draft(draft.replacing(golden=tuple(swapped)))

    running = server(shelf.store)

    assert (name == "two labels swapped") == (running.events[-1]["tasks"] == {"fruit": 1})
