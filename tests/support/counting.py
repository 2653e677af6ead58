"""A model whose texts take as long as a test wants: the longer the text, the longer."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.support.tiny import FEATURES, MAX_TOKENS, WIDTH, Shelf, TinyDraft, TinyTask

SHORT, LONG = "red", "a red green apple square of a picture"


def counting_draft(shelf: Shelf, exponent: int = 9, name: str = "fruit", seed: int = 1) -> TinyDraft:
    """A tiny task that answers as ever, its texts after counting to the number of their tokens to that power.

    With 9, SHORT takes no time, a golden example part of a second, and LONG minutes. A text of more tokens than LONG
    takes no time: the load check runs the longest text.
    """
    tail = _tail(TinyTask(name, seed).weights()["text_tail"], exponent)
    draft = shelf.draft(name, seed).replacing_graph("text_tail", tail)
    return draft.replacing(text=draft.manifest.text.model_copy(update={"max_length": MAX_TOKENS + 1}))


def _tail(weight: np.ndarray, exponent: int) -> bytes:
    counter = [helper.make_tensor_value_info("number", TensorProto.INT64, [])]
    counted = [helper.make_tensor_value_info("counted", TensorProto.FLOAT, [])]
    going = [helper.make_tensor_value_info("going", TensorProto.BOOL, [])]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["counted", "one"], ["next"]),
        ],
        "body",
        [*counter, *going, *counted],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["last_token"], ["longest"], keepdims=0),
        helper.make_node("LessOrEqual", ["longest", "limit"], ["counts"]),
        helper.make_node("Where", ["counts", "longest", "none"], ["base"]),
        helper.make_node("Pow", ["base", "exponent"], ["most"]),
        helper.make_node("Loop", ["most", "yes", "zero"], ["count"], body=body),
        helper.make_node("Mul", ["count", "zero"], ["nothing"]),
        helper.make_node("Unsqueeze", ["last_token", "axis"], ["places"]),
        helper.make_node("GatherND", ["text_hidden", "places"], ["pooled"], batch_dims=1),
        helper.make_node("MatMul", ["pooled", "weight"], ["features"]),
        helper.make_node("Add", ["features", "nothing"], ["text_features"]),
    ]
    constants = {
        "exponent": np.array(exponent, np.int64),
        "limit": np.array(MAX_TOKENS - 1, np.int64),
        "none": np.array(0, np.int64),
        "yes": np.array(True),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "axis": np.array([1]),
        "weight": weight,
    }
    graph = helper.make_graph(
        nodes,
        "counting",
        [
            helper.make_tensor_value_info("text_hidden", TensorProto.FLOAT, ["B", "L", WIDTH]),
            helper.make_tensor_value_info("last_token", TensorProto.INT64, ["B"]),
        ],
        [helper.make_tensor_value_info("text_features", TensorProto.FLOAT, ["B", FEATURES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()
