"""The four graphs at int8 (for CPUs) and at fp16 (for GPUs), with the inputs and outputs of the fp32 ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from model_store import Precision
from training.export.graph_bytes import canonical_bytes
from training.export.onnx_graphs import GraphFiles
from training.export.static_int8 import Feed, int8_graph


def converted(fp32: GraphFiles, precision: Precision, items: Mapping[str, Sequence[Feed]]) -> GraphFiles:
    """The graphs at another precision; those of bf16 are the fp32 ones.

    Equal fp32 graphs become equal bytes, so tasks still share their trunks; those of int8 depend on the items too.

    Args:
        items: for int8, the inputs of each graph for items of the task.
    """
    if precision is Precision.BF16:
        return fp32
    if precision is Precision.INT8:
        return {name: int8_graph(data, items[name]) for name, data in fp32.items()}
    return {name: _fp16(onnx.load_model_from_string(data)) for name, data in fp32.items()}


def _fp16(model: onnx.ModelProto) -> bytes:
    """Weights and activations in half precision; only the graph's own inputs and outputs are cast."""
    half = convert_float_to_float16(model, keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # the converter appends its casts
    return canonical_bytes(half)
