"""An int8 graph with fixed scales: an answer does not depend on the other inputs of its batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from training.export.graph_bytes import canonical_bytes

Feed: TypeAlias = dict[str, NDArray[Any]]  # the inputs of a graph by name, of one item

MAX_PRODUCT_ERROR = 0.02  # of a token's product, on average
_COMPARED_ITEMS = 8
_COMPARED_TOKENS = 64  # of an item
_TINY = float(np.finfo(np.float32).tiny)


def int8_graph(fp32: bytes, items: Sequence[Feed]) -> bytes:
    """Convert the products with a weight to int8. Convolutions, embeddings, attention and norms stay as they are.

    Weights are signed and scaled per output channel. Activations have the range that they take on the items. Two kinds
    of products stay in fp32: those of one token, which cost little, and those whose int8 inputs would change their
    output by more than 2 % on average. The input of the latter has a few values that are far larger than the others,
    as the first token of many transformers has (Sun et al., "Massive activations in large language models", 2024).

    Args:
        items: the inputs of the graph for items of the task; without any, the graph stays in fp32.
    """
    model = onnx.load_model_from_string(fp32)
    products = [name for name, error in product_errors(model, items) if error <= MAX_PRODUCT_ERROR]
    if not products:
        return fp32
    add_pre_process_metadata(model)  # avoids a warning; the graph has nothing to fold
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            _Reader(items),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=products,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return canonical_bytes(onnx.load(path))


def product_errors(model: onnx.ModelProto, items: Iterable[Feed]) -> Iterator[tuple[str, float]]:
    """Each product of several tokens with a weight: its node's name, and its error if it were computed in int8.

    The error is the norm of the change over the norm of the product, |Q(x) Q(W) - x W| / |x W|, on average over tokens.
    A mean over tokens rather than over numbers, because a few tokens may be a hundred times as large as the others.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    inputs = _product_inputs(model, {node.input[0] for node in products}, items)
    for node in products:
        if node.input[0] in inputs:
            tokens, rounded = inputs[node.input[0]]
            yield node.name, _error(tokens, rounded, onnx.numpy_helper.to_array(weights[node.input[1]]))


def _product_inputs(
    model: onnx.ModelProto, names: set[str], items: Iterable[Feed]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Some tokens (n, D) of each activation that has several for an item, as they are and rounded to 8 bits."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    session = ort.InferenceSession(observed.SerializeToString(), providers=["CPUExecutionProvider"])
    tokens, ranges = defaultdict[str, list[NDArray[np.float32]]](list), defaultdict[str, list[float]](lambda: [0.0])
    for number, feed in enumerate(items):
        if number == _COMPARED_ITEMS:
            break
        for name, value in zip(sorted(names), session.run(sorted(names), feed), strict=True):
            rows = value.reshape(-1, value.shape[-1])
            if len(rows) > 1:
                tokens[name].append(rows[:: -(-len(rows) // _COMPARED_TOKENS)])
                ranges[name] += [float(rows.min()), float(rows.max())]
    inputs = {}
    for name, parts in tokens.items():
        step = max((max(ranges[name]) - min(ranges[name])) / 255, _TINY)
        whole = np.concatenate(parts)
        inputs[name] = whole, (np.round(whole / step) * step).astype(np.float32)
    return inputs


def _error(tokens: NDArray[np.float32], rounded: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    step = np.maximum(np.abs(weight).max(axis=0) / 127, _TINY)
    product = tokens @ weight
    change = rounded @ (np.round(weight / step) * step) - product
    size = np.maximum(np.linalg.norm(product, axis=1), _TINY)
    return float((np.linalg.norm(change, axis=1) / size).mean())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the items one by one."""

    def __init__(self, items: Iterable[Feed]) -> None:
        self._items = iter(items)

    def get_next(self) -> Feed | None:
        """The next item; None after the last."""
        return next(self._items, None)
