"""An ONNX graph, written node by node. Equal weights give equal bytes, whatever the versions of torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

_OPSET, _IR_VERSION = 20, 10  # the lowest with every operator that is written; older runtimes read them too

Value = str  # the name of a tensor in the graph


class Port(NamedTuple):
    """An input or output of a graph; a dimension with a name is dynamic."""

    name: str
    kind: int
    shape: Sequence[int | str]


class GraphWriter:
    """Nodes and constants of one graph, named by their order.

    Attributes:
        adapted: the modules whose weights are inputs of the graph in place of constants.
        weights: the values of these inputs by name.
    """

    def __init__(self, adapted: Collection[object] = ()) -> None:
        self.adapted = adapted
        self.weights: dict[str, NDArray[Any]] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: Value | ArrayLike, **attributes: Any) -> Value:  # noqa: ANN401
        """Write a node with one output. An input that is not the name of a tensor is a constant."""
        names = [value if isinstance(value, str) else self._constant(np.asarray(value)) for value in inputs]
        output = f"tensor_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, names, [output], name=f"node_{len(self._nodes)}", **attributes))
        return output

    def weight(self, array: NDArray[Any]) -> Value:
        """An fp32 input of the array's shape, in place of a constant."""
        name = f"weight_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def _constant(self, array: NDArray[Any]) -> Value:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, inputs: Sequence[Port], output: Port) -> bytes:
        """The model with the last node's output as its own. The weights follow its other inputs."""
        self._nodes[-1].output[0] = output.name
        weights = [Port(name, onnx.TensorProto.FLOAT, value.shape) for name, value in self.weights.items()]
        ports = [[helper.make_tensor_value_info(*port) for port in ports] for ports in ([*inputs, *weights], [output])]
        graph = helper.make_graph(self._nodes, "main", *ports, self._constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        return bytes(model.SerializeToString(deterministic=True))
