"""int8 products are exact on every processor."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from model_store.session_options import session_options


def test_the_largest_int8_products_do_not_saturate() -> None:
    weight = helper.make_tensor("weight", TensorProto.INT8, [64, 32], [127] * 64 * 32)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [8, 32])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options())

    (product,) = session.run(None, {"x": np.full((8, 64), 255, np.uint8)})

    np.testing.assert_array_equal(product, 64 * 255 * 127)
