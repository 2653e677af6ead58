"""int8 and fp16 graphs are really that, keep the fp32 graphs' contract, and are the same every time.

Covers training.export.graph_bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from model_store import Precision
from model_store.session_options import session_options
from training.config import TaskConfig
from training.export.onnx_graphs import GraphFiles, export_graphs
from training.export.quantization import converted
from training.export.static_int8 import Feed
from training.learning.runs import build

WEIGHTS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
LOWER = [Precision.INT8, Precision.FP16]


@pytest.fixture(scope="module")
def fp32(tiny_backbone, parquet) -> GraphFiles:
    config = TaskConfig(task="colors", problem="single_label", backbone=str(tiny_backbone), data=parquet)
    model, _ = build(config, 3)
    model.adapter.merge()
    return export_graphs(model)


@pytest.fixture(scope="module")
def items(fp32) -> dict[str, list[Feed]]:
    """The inputs of each graph for eight pictures of noise and eight texts."""
    sessions, rng = {name: ort.InferenceSession(data) for name, data in fp32.items()}, np.random.default_rng(1)
    pixels = [{"pixel_values": rng.normal(size=(1, 3, 32, 32)).astype(np.float32)} for _ in range(8)]
    ids = [{"input_ids": rng.integers(2, 100, (1, length))} for length in range(3, 11)]
    image, text = (
        [sessions[name].run(None, each)[0] for each in feeds]
        for name, feeds in (("image_trunk", pixels), ("text_trunk", ids))
    )
    return {
        "image_trunk": pixels,
        "image_tail": [{"image_hidden": hidden} for hidden in image],
        "text_trunk": ids,
        "text_tail": [{"text_hidden": hidden, "last_token": np.array([hidden.shape[1] - 1])} for hidden in text],
    }


@pytest.fixture(scope="module")
def lower(fp32, items) -> dict[Precision, GraphFiles]:
    return {precision: converted(fp32, precision, items) for precision in LOWER}


def features(files: GraphFiles) -> tuple[np.ndarray, np.ndarray]:
    """Of three pictures of noise and of three texts."""
    sessions = {name: ort.InferenceSession(data, session_options()) for name, data in files.items()}
    rng = np.random.default_rng(0)
    pixels, ids = rng.normal(size=(3, 3, 32, 32)).astype(np.float32), rng.integers(2, 100, (3, 9))
    hidden = sessions["image_trunk"].run(None, {"pixel_values": pixels})[0]
    words = sessions["text_trunk"].run(None, {"input_ids": ids})[0]
    image = sessions["image_tail"].run(None, {"image_hidden": hidden})[0]
    return image, sessions["text_tail"].run(None, {"text_hidden": words, "last_token": np.full(3, 8)})[0]


def ports(data: bytes) -> list[tuple[str, int]]:
    graph = onnx.load_model_from_string(data).graph
    return [(port.name, port.type.tensor_type.elem_type) for port in (*graph.input, *graph.output)]


@pytest.mark.parametrize("precision", LOWER)
def test_features_are_near_those_of_fp32_and_not_equal(fp32, lower, precision: Precision) -> None:
    for before, after in zip(features(fp32), features(lower[precision]), strict=True):
        difference = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert 1e-6 < difference < {Precision.INT8: 0.05, Precision.FP16: 0.005}[precision]


@pytest.mark.parametrize("precision", LOWER)
def test_the_contract_of_the_graphs_stays(fp32, lower, precision: Precision) -> None:
    for name, data in lower[precision].items():
        assert ports(data) == ports(fp32[name])


@pytest.mark.parametrize("precision", LOWER)
def test_graphs_are_valid_self_contained_and_the_same_every_time(fp32, items, lower, precision: Precision) -> None:
    assert converted(fp32, precision, items) == lower[precision]
    for data in lower[precision].values():
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert b"/tmp" not in data


def test_every_weight_is_in_fp16(lower) -> None:
    for data in lower[Precision.FP16].values():
        kinds = {t.data_type for t in onnx.load_model_from_string(data).graph.initializer if t.data_type in WEIGHTS}
        assert kinds == {onnx.TensorProto.FLOAT16}
