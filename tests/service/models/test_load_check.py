"""Versions that reproduce their golden examples and fail on other items, and faults that pass while the check runs."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image
from safetensors.numpy import load, save

from model_store import Calibration, Pattern, blob_of
from service.models.graphs import Graph
from service.models.load_check import LoadCheck
from service.models.loaded_model import Model
from service.models.loading import Loader
from service.models.preparation import TextTokenizer
from service.models.refusal import RefusedError, ShortageError, is_final
from service.settings import Settings
from tests.support.tiny import FEATURES, WIDTH, TinyTask, tokenizer_json


def loader(shelf, **settings: object) -> Loader:
    return Loader(shelf.store, Settings(store=shelf.store.root, intra_op_threads=1, **settings))


def with_blob(draft, data: bytes, **changes: object):
    return replace(draft.replacing(**changes), blobs={**draft.blobs, blob_of(data).sha256: data})


def with_max_length(draft, max_length: int):
    return draft.replacing(text=draft.manifest.text.model_copy(update={"max_length": max_length}))


def with_trunk(draft, onnx_graph, positions: int, **fixed: int):
    """A text trunk that adds the first rows of a table of `positions` zeros; `length` fixes the tokens it takes."""
    ids = (TensorProto.INT64, ["B", fixed.get("length", "L")])
    steps = [("Gather", ["weight", "input_ids"], {}), ("CumSum", [0, "axis"], {}), ("Tanh", [1], {})]
    constants = {"axis": np.array(1), "weight": TinyTask().weights()["text_trunk"]}
    if positions:
        table = np.zeros((1, positions, WIDTH), np.float32)
        steps = [
            *steps[:2],
            ("Shape", [1], {}),
            ("Slice", ["table", "zero", 2, "axes"], {}),
            ("Add", [1, 3], {}),
            ("Tanh", [4], {}),
        ]
        constants |= {"table": table, "zero": np.array([0, 0, 0]), "axes": np.array([0, 1, 2])}
    hidden = {"text_hidden": (TensorProto.FLOAT, ["B", "L", WIDTH])}
    return draft.replacing_graph("text_trunk", onnx_graph({"input_ids": ids}, hidden, steps, constants))


def with_head(draft, change):
    data = save(change(load(draft.blobs[draft.manifest.head.sha256])))
    return with_blob(draft, data, head=blob_of(data))


def with_absent(draft, change):
    data = save(change(load(draft.blobs[draft.manifest.absent_features.sha256])))
    return with_blob(draft, data, absent_features=blob_of(data))


def with_infinite_summands(draft):
    """Logits stay finite: nothing but the explanation multiplies the enormous features of an absent image."""

    def blind(tensors: dict) -> dict:
        weight = tensors["text.weight"].copy()
        weight[:, :FEATURES] = 0
        return {**tensors, "text.weight": weight}

    changed = with_head(draft, blind)
    tensors = load(changed.blobs[changed.manifest.head.sha256])
    golden = []
    for example in draft.manifest.golden:
        if example.pattern is Pattern.TEXT:
            features = np.concatenate([np.zeros(FEATURES), TinyTask().features(None, example.text)[1]])
            logits = tensors["text.weight"] @ features + tensors["text.bias"]
            example = example.model_copy(update={"logits": tuple(logits.tolist())})
        golden.append(example)
    enormous = np.full(FEATURES, 3e38, np.float32)
    return with_absent(changed.replacing(golden=tuple(golden)), lambda tensors: {**tensors, "image": enormous})


def with_tokenizer(draft, change):
    tokenizer = json.loads(tokenizer_json())
    change(tokenizer)
    data = json.dumps(tokenizer).encode()
    return with_blob(draft, data, text=draft.manifest.text.model_copy(update={"tokenizer": blob_of(data)}))


def without_unknown_word(tokenizer: dict) -> None:
    tokenizer["model"]["unk_token"] = "missing"  # noqa: S105
    del tokenizer["model"]["vocab"]["of"]  # which no golden example contains


FAULTS = {
    "fewer positions than max_length": lambda d, g: with_trunk(d, g, positions=6),
    "one position fewer than max_length": lambda d, g: with_trunk(with_max_length(d, 9), g, positions=8),
    "max_length beyond the positions": lambda d, g: with_trunk(with_max_length(d, 77), g, positions=76),
    "a fixed length": lambda d, g: with_trunk(d, g, positions=0, length=5),
    "infinite summands": lambda d, g: with_infinite_summands(d),
    "a word that the tokenizer lacks": lambda d, g: with_tokenizer(d, without_unknown_word),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_version_that_fails_on_other_items_than_its_golden_examples_is_refused(shelf, onnx_graph, name):
    shelf.publish_draft(FAULTS[name](shelf.draft(), onnx_graph))

    with pytest.raises(RefusedError) as caught:
        loader(shelf).load("fruit", 1)

    assert caught.value.reason in ("signature", "golden_mismatch")
    assert str(caught.value).startswith("no answer to ")


@pytest.mark.parametrize(("positions", "max_length"), [(10, 10), (8, 8), (77, 77), (512, 512)])
def test_a_version_that_takes_its_longest_text_is_loaded(shelf, onnx_graph, positions, max_length):
    shelf.publish_draft(with_trunk(with_max_length(shelf.draft(), max_length), onnx_graph, positions))

    assert loader(shelf).load("fruit", 1).manifest.text.max_length == max_length


@pytest.mark.parametrize("pattern", Pattern)
@pytest.mark.parametrize("temperature", [1e-308, 1e-320])
def test_a_temperature_that_makes_scores_infinite_is_refused_even_by_its_check(shelf, pattern, temperature):
    shelf.publish()
    opening = loader(shelf)
    model = opening.load("fruit", 1)
    broken = {**model.manifest.calibration, pattern: Calibration.model_construct(temperature=temperature)}

    with pytest.raises(RefusedError, match="is not finite") as caught:
        opening.check(replace(model, manifest=model.manifest.model_copy(update={"calibration": broken})))

    assert is_final(caught.value)


def test_the_largest_inputs_run_through_the_towers(shelf, monkeypatch):
    shelf.publish_draft(with_max_length(shelf.draft(), 50))
    prepared, features = [], Model.features
    monkeypatch.setattr(Model, "features", lambda *arguments: prepared.append(arguments[1]) or features(*arguments))

    loader(shelf, max_image_pixels=16 * 16 * 1000).load("fruit", 1)

    largest = prepared[-1]
    assert largest.tokens.input_ids.shape == (1, 50)
    assert largest.tokens.truncated
    assert largest.pixel_values.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"max_image_pixels": 16 * 16 * 1003}, (1003, 1)),
        ({"max_image_pixels": 16 * 16 * 7 + 5}, (7, 1)),
        ({"max_image_pixels": 16 * 16 + 3}, (1, 1)),
        ({"max_image_pixels": 16 * 16 * 1003, "max_decode_bytes": 1_000_000}, (501, 1)),
    ],
)
def test_the_picture_is_as_elongated_as_the_limits_allow(shelf, monkeypatch, settings, size):
    shelf.publish()
    sizes: list[tuple[int, int]] = []
    new = Image.new
    monkeypatch.setattr(Image, "new", lambda mode, size, *more: sizes.append(size) or new(mode, size, *more))

    loader(shelf, **settings).load("fruit", 1)

    assert [each for each in sizes if each[1] == 1][-1] == size


PASSING = {
    "memory for a run": (
        Graph,
        "run_on_device",
        RuntimeError("Error in execution: bfc_arena.cc:360 AllocateRawInternal"),
    ),
    "memory in Python": (Graph, "run_on_device", MemoryError()),
    "memory for a picture": (Model, "decode", MemoryError()),
    "memory for a text": (TextTokenizer, "tokenize", MemoryError()),
    "threads": (threading.Thread, "start", RuntimeError("can't start new thread")),
    "files": (LoadCheck, "run", OSError(24, "Too many open files")),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_shortage_during_the_check_is_no_fault_of_the_version(shelf, monkeypatch, name):
    shelf.publish()
    owner, method, error = PASSING[name]

    def lacking(*arguments: object, **options: object) -> None:
        raise error

    opening = loader(shelf)
    model = opening.load("fruit", 1)
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, lacking)
        if name == "files":
            with pytest.raises(OSError, match="Too many open files"):
                opening.check(model)
        else:
            with pytest.raises(ShortageError):
                opening.check(model)

    opening.check(model)
