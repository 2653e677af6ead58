"""int8 graphs have fixed scales; products that would lose accuracy, or that cost little, stay in fp32."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from model_store.session_options import session_options
from training.export.graph_writer import GraphWriter, Port
from training.export.static_int8 import MAX_PRODUCT_ERROR, Feed, int8_graph, product_errors

WIDTH, WIDER = 16, 48
RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(size=shape).astype(np.float32) / 4 for shape in ((WIDTH, WIDER), (WIDER, WIDTH)))


def graph(*, pooled: bool = False) -> bytes:
    """tanh(x FIRST) SECOND, for tokens x (B, L, D); the second product for the first token alone if `pooled`."""
    write = GraphWriter()
    hidden = write("Tanh", write("MatMul", "x", FIRST))
    if pooled:
        hidden = write("Slice", hidden, [0], [1], [1])
    write("MatMul", hidden, SECOND)
    ports = [Port(name, TensorProto.FLOAT, ["batch", "length", WIDTH]) for name in "xy"]
    return write.model(ports[:1], ports[1])


def items(count: int = 8, outlier: float = 1.0) -> list[Feed]:
    """Tokens of items; the first number of each item is larger by a factor."""
    arrays = [RNG.normal(size=(1, 5, WIDTH)).astype(np.float32) for _ in range(count)]
    for array in arrays:
        array[0, 0, 0] *= outlier
    return [{"x": array} for array in arrays]


def run(data: bytes, feed: Feed) -> np.ndarray:
    return ort.InferenceSession(data, session_options()).run(None, feed)[0]


def kinds(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_model_from_string(data).graph.node)


def weights(data: bytes) -> dict[tuple[int, ...], int]:
    """The type of each matrix by its shape."""
    tensors = onnx.load_model_from_string(data).graph.initializer
    return {tuple(tensor.dims): tensor.data_type for tensor in tensors if len(tensor.dims) == 2}


def test_products_with_a_weight_are_in_int8_and_near_those_of_fp32() -> None:
    data = int8_graph(graph(), items())

    assert set(weights(data).values()) == {TensorProto.INT8}
    for feed in items():
        expected = run(graph(), feed)
        assert 1e-4 < np.linalg.norm(run(data, feed) - expected) / np.linalg.norm(expected) < 0.03


@pytest.mark.parametrize("others", [1, 7, 31])
@pytest.mark.parametrize("size", [0.01, 1, 100])
def test_an_answer_does_not_depend_on_its_neighbours(others: int, size: float) -> None:
    data, (feed,) = int8_graph(graph(), items()), items(1)
    batch = np.concatenate([feed["x"], size * RNG.normal(size=(others, 5, WIDTH)).astype(np.float32)])

    np.testing.assert_allclose(run(data, {"x": batch})[:1], run(data, feed), atol=1e-6)


@pytest.mark.parametrize("outlier", [300, 3_000, 1e6])
def test_a_product_whose_input_has_a_massive_number_stays_in_fp32(outlier: float) -> None:
    data = int8_graph(graph(), items(outlier=outlier))

    assert weights(data)[WIDTH, WIDER] == TensorProto.FLOAT
    assert weights(data)[WIDER, WIDTH] == TensorProto.INT8  # behind tanh


def test_a_product_of_one_token_stays_in_fp32() -> None:
    data = int8_graph(graph(pooled=True), items())

    assert weights(data) == {(WIDTH, WIDER): TensorProto.INT8, (WIDER, WIDTH): TensorProto.FLOAT}


@pytest.mark.parametrize("feeds", [[], [{"x": np.ones((1, 1, WIDTH), np.float32)}]])
def test_a_graph_without_a_product_for_int8_stays_as_it_is(feeds: list[Feed]) -> None:
    assert int8_graph(graph(pooled=True), feeds) == graph(pooled=True)


def test_weights_are_scaled_per_channel_and_signed() -> None:
    tensors = {
        tensor.name: tensor for tensor in onnx.load_model_from_string(int8_graph(graph(), items())).graph.initializer
    }
    weight = next(tensor for tensor in tensors.values() if tuple(tensor.dims) == (WIDTH, WIDER))

    assert np.abs(onnx.numpy_helper.to_array(weight)).max(axis=0).min() == 127  # every channel uses its range


@pytest.mark.parametrize("outlier", [1, 30, 1_000])
def test_the_error_of_a_product_is_that_of_its_rounded_inputs(outlier: float) -> None:
    feeds, model = items(outlier=outlier), onnx.load_model_from_string(graph())
    tokens = np.concatenate([feed["x"].reshape(-1, WIDTH) for feed in feeds]).astype(np.float64)
    step = (tokens.max() - tokens.min()) / 255
    steps = np.abs(FIRST).max(axis=0) / 127
    change = (np.round(tokens / step) * step) @ (np.round(FIRST / steps) * steps) - tokens @ FIRST
    expected = np.mean(np.linalg.norm(change, axis=1) / np.linalg.norm(tokens @ FIRST, axis=1))

    (_, error), _ = product_errors(model, feeds)

    assert error == pytest.approx(expected, rel=0.05)
    assert (error > MAX_PRODUCT_ERROR) == (outlier > 1)


def test_the_same_items_give_the_same_bytes_and_no_path() -> None:
    feeds = items()
    assert int8_graph(graph(), feeds) == int8_graph(graph(), feeds)
    assert b"/tmp" not in int8_graph(graph(), feeds)
    assert kinds(int8_graph(graph(), feeds))["QuantizeLinear"] == 2  # of the inputs; outputs are not rounded
