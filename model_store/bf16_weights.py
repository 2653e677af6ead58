"""Graphs with weights in bf16, for a runtime that multiplies in bf16 and keeps the weights that it was given."""

from __future__ import annotations

from collections import Counter

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import OrtValue


def with_bf16_weights(graph: bytes) -> bytes:
    """An fp32 graph whose products with a weight are in bf16. The rest, and the values between them, stay in fp32.

    A weight is a constant that is used in products alone, or an input of a fixed shape, which then takes bf16.

    Raises ValueError for bytes that are no graph.
    """
    try:
        model = onnx.ModelProto.FromString(graph)
    except Exception as error:  # of protobuf
        raise ValueError(f"this is no ONNX graph: {error}") from error
    content, weights = model.graph, _weights(model.graph)
    for constant in content.initializer:
        if constant.name in weights:
            values = numpy_helper.to_array(constant).astype(ml_dtypes.bfloat16)
            constant.CopyFrom(numpy_helper.from_array(values, constant.name))
    for port in content.input:
        if port.name in weights:
            port.type.tensor_type.elem_type = TensorProto.BFLOAT16
    nodes = [each for node in content.node for each in (_in_bf16(node) if weights & {*node.input} else [node])]
    del content.node[:]
    content.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))


def in_bf16(weight: NDArray[np.float32]) -> OrtValue:
    """A value for an input that takes bf16."""
    bits = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)


def _weights(graph: GraphProto) -> set[str]:
    """The names of the weights that are the right side of products, and nothing else."""
    uses = Counter(name for node in graph.node for name in node.input)
    products = Counter(name for node in graph.node if node.op_type == "MatMul" for name in node.input[1:])
    weights = {each.name for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    for port in graph.input:
        kind = port.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and all(size.HasField("dim_value") for size in kind.shape.dim):
            weights.add(port.name)
    return {name for name in weights if 0 < uses[name] == products[name]}


def _in_bf16(product: NodeProto) -> list[NodeProto]:
    (left, weight), output = product.input, product.output[0]
    return [
        helper.make_node("Cast", [left], [f"{output}/left"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", [f"{output}/left", weight], [f"{output}/bf16"], name=product.name),
        helper.make_node("Cast", [f"{output}/bf16"], [output], to=TensorProto.FLOAT),
    ]
