"""A tiny task whose text encoder takes its time: a loop in the graph, so that it is the encoder that is slow."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import VOCABULARY, WIDTH, Shelf, TinyTask

_STATE = 16_384  # numbers that each turn works on


def publish_slow(shelf: Shelf, turns: int) -> None:
    """Publish `fruit`, with answers as ever."""
    graph = slow_text_trunk(TinyTask().weights()["text_trunk"], turns)
    shelf.publish_draft(shelf.draft().replacing_graph("text_trunk", graph))


def slow_text_trunk(weight: np.ndarray, turns: int) -> bytes:
    """The tiny text trunk, with `turns` of a loop on the way that add exactly nothing, whatever the batch."""
    turn = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Tanh", ["state"], ["next_state"])],
        "turn",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [_STATE]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [_STATE]),
        ],
    )
    constants = {
        "weight": weight,
        "axis": np.array(1),
        "turns": np.array(turns),
        "yes": np.array(True),
        "nothing": np.array(0, np.float32),
        "start": np.linspace(-1, 1, _STATE, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["weight", "input_ids"], ["words"]),
        helper.make_node("ReduceSum", ["words"], ["sum"], keepdims=0),  # so that the loop is not a constant
        helper.make_node("Add", ["start", "sum"], ["state0"]),
        helper.make_node("Loop", ["turns", "yes", "state0"], ["state1"], body=turn),
        helper.make_node("ReduceSum", ["state1"], ["turned"], keepdims=0),
        helper.make_node("Mul", ["turned", "nothing"], ["zero"]),
        helper.make_node("CumSum", ["words", "axis"], ["sums"]),
        helper.make_node("Add", ["sums", "zero"], ["shifted"]),
        helper.make_node("Tanh", ["shifted"], ["text_hidden"]),
    ]
    proto = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "L"])],
        [helper.make_tensor_value_info("text_hidden", TensorProto.FLOAT, ["B", "L", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    assert weight.shape == (len(VOCABULARY), WIDTH)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
