"""The four graphs at int8 (for CPUs) and at fp16 (for GPUs), with the inputs and outputs of the fp32 ones."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from model_store import Precision
from training.export.onnx_graphs import GraphFiles


def converted(fp32: GraphFiles, precision: Precision) -> GraphFiles:
    """The graphs at another precision; those of bf16 are the fp32 ones.

    Equal fp32 graphs become equal bytes, so tasks still share their trunks.
    """
    if precision is Precision.BF16:
        return fp32
    convert = {Precision.INT8: _int8, Precision.FP16: _fp16}[precision]
    return {name: convert(onnx.load_model_from_string(data)) for name, data in fp32.items()}


def _int8(model: onnx.ModelProto) -> bytes:
    """Convert every product with a weight to int8. Convolutions, embeddings, attention and norms stay in fp32.

    Weights are signed and scaled per output channel, because VNNI instructions multiply those fastest. Activations are
    scaled at run time by the range of the whole tensor. Therefore inputs run one at a time: other inputs in the batch
    would change the scale.
    """
    add_pre_process_metadata(model)  # avoids a warning; the exporter has already folded and fused
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
        )
        return canonical_bytes(onnx.load(path))


def _fp16(model: onnx.ModelProto) -> bytes:
    """Weights and activations in half precision; only the graph's own inputs and outputs are cast."""
    half = convert_float_to_float16(model, keep_io_types=True)
    OnnxModel.graph_topological_sort(half.graph, is_deterministic=True)  # the converter appends its casts
    return canonical_bytes(half)


def canonical_bytes(model: onnx.ModelProto) -> bytes:
    """Bytes that depend only on the computation, without notes of the converters."""
    graph = model.graph
    graph.name = "main"
    model.doc_string = ""
    for holder in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del holder.metadata_props[:]
    del graph.value_info[:]  # shapes; the runtime infers them
    for node in graph.node:
        node.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
