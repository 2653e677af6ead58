"""Weights in bf16: which of a graph's values they are, and what the graph then answers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from model_store.bf16_weights import with_bf16_weights

WIDTH = 4
RNG = np.random.default_rng(0)
WEIGHT, OTHER = (RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32) for _ in range(2))
HIDDEN = RNG.normal(size=(3, WIDTH)).astype(np.float32)
FIXED, DYNAMIC = [WIDTH, WIDTH], ["rows", WIDTH]

# Nodes, constants, and inputs beside `hidden` with their shapes; and the names of the weights.
GRAPHS = {
    "one product": ([("MatMul", "hidden w", "y")], {"w": WEIGHT}, {}, {"w"}),
    "two products": (
        [("MatMul", "hidden w", "a"), ("Tanh", "a", "b"), ("MatMul", "b v", "y")],
        {"w": WEIGHT, "v": OTHER},
        {},
        {"w", "v"},
    ),
    "a weight of two products": ([("MatMul", "hidden w", "a"), ("MatMul", "a w", "y")], {"w": WEIGHT}, {}, {"w"}),
    "a bias": (
        [("MatMul", "hidden w", "a"), ("Add", "a bias", "y")],
        {"w": WEIGHT, "bias": OTHER[0]},
        {},
        {"w"},
    ),
    "a constant that is also added": (
        [("MatMul", "hidden w", "a"), ("MatMul", "a v", "b"), ("Add", "w v", "c"), ("MatMul", "b c", "y")],
        {"w": WEIGHT, "v": OTHER},
        {},
        set(),
    ),
    "a constant on the left side": (
        [("Transpose", "hidden", "t"), ("MatMul", "w t", "y")],
        {"w": WEIGHT},
        {},
        set(),
    ),
    "an input of a fixed shape": ([("MatMul", "hidden v", "y")], {}, {"v": (FIXED, OTHER)}, {"v"}),
    "an input of any length": ([("MatMul", "hidden v", "y")], {}, {"v": (DYNAMIC, OTHER)}, set()),
    "an input and a constant": (
        [("MatMul", "hidden v", "a"), ("MatMul", "a w", "y")],
        {"w": WEIGHT},
        {"v": (FIXED, OTHER)},
        {"v", "w"},
    ),
}


def model(nodes: list, constants: dict[str, np.ndarray], inputs: dict[str, tuple]) -> bytes:
    shapes = {"hidden": DYNAMIC, **{name: shape for name, (shape, _) in inputs.items()}}
    graph = helper.make_graph(
        [helper.make_node(operator, names.split(), [output]) for operator, names, output in nodes],
        "main",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()


def kinds(graph: onnx.GraphProto) -> dict[str, int]:
    inputs = {each.name: each.type.tensor_type.elem_type for each in graph.input}
    return inputs | {each.name: each.data_type for each in graph.initializer}


@pytest.mark.parametrize("name", GRAPHS)
def test_exactly_the_weights_of_products_become_bf16(name):
    nodes, constants, inputs, weights = GRAPHS[name]
    found = kinds(onnx.ModelProto.FromString(with_bf16_weights(model(nodes, constants, inputs))).graph)

    assert {each for each, kind in found.items() if kind == TensorProto.BFLOAT16} == weights
    assert found.keys() == {"hidden", *constants, *inputs}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_answer_is_that_of_the_graph_within_the_digits_of_bf16(name):
    nodes, constants, inputs, weights = GRAPHS[name]
    before = model(nodes, constants, inputs)
    after = with_bf16_weights(before)
    values = {each: value for each, (_, value) in inputs.items()}
    rounded = {each: value.astype(ml_dtypes.bfloat16) if each in weights else value for each, value in values.items()}

    expected, answer = (
        ReferenceEvaluator(onnx.ModelProto.FromString(data)).run(None, {"hidden": HIDDEN, **given})[0]
        for data, given in ((before, values), (after, rounded))
    )

    assert answer.dtype == np.float32
    assert np.abs(answer - expected).max() < 0.05 * np.abs(expected).max()
    assert np.array_equal(answer, expected) is (not weights)


def test_equal_graphs_become_equal_bytes():
    nodes, constants, inputs, _ = GRAPHS["two products"]
    assert with_bf16_weights(model(nodes, constants, inputs)) == with_bf16_weights(model(nodes, constants, inputs))


@pytest.mark.parametrize("data", [b"\xff" * 40, b"no graph", model(*GRAPHS["a bias"][:3])[:-7]])
def test_bytes_that_are_no_graph_are_an_error(data):
    with pytest.raises(ValueError, match="this is no ONNX graph"):
        with_bf16_weights(data)
