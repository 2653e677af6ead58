"""The end of a tower: a graph that tasks may share, and the weights that a task adapts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from onnxruntime import OrtValue, RunOptions

from model_store import Precision
from service.models.execution import Execution, Runtime
from service.models.graphs import Array, Graph, Port, has_cuda


class Weights:
    """Values of those inputs of a tail that are weights, in the memory of the device that runs it.

    Args:
        data: safetensors, fp32.

    Attributes:
        values: in the order of `ports`.
    """

    def __init__(self, data: bytes, execution: Execution) -> None:
        arrays = dict(sorted(safetensors.numpy.load(data).items()))  # which come in any order
        if execution.precision is Precision.BF16:
            from model_store.bf16_weights import in_bf16

            self.values = tuple(map(in_bf16, arrays.values()))
        else:
            device = "cuda" if execution.runtime is Runtime.ONNXRUNTIME and has_cuda() else "cpu"
            self.values = tuple(OrtValue.ortvalue_from_numpy(array, device) for array in arrays.values())
        types = (value.data_type() for value in self.values)
        self.ports = tuple(Port(name, kind, arrays[name].ndim) for name, kind in zip(arrays, types, strict=True))


@dataclass(frozen=True)
class Tail:
    """A graph with the weights of a task, or without. Two are equal if both parts are the same objects."""

    graph: Graph
    weights: Weights | None = None

    def run(self, *inputs: Array, options: RunOptions | None = None) -> NDArray[np.float32]:
        """Features (B, P). The arguments are those of `Graph.run` without the weights."""
        return self.graph.run(*inputs, *(self.weights.values if self.weights else ()), options=options)
