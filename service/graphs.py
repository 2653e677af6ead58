"""ONNX graphs with a fixed contract, opened from verified bytes and shared by content."""

from __future__ import annotations

import ctypes
import functools
import threading
from contextlib import suppress
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_store import Blob, Store
from service.refusal import RefusedError, refusing


class Port(NamedTuple):
    """One input or output of a graph."""

    name: str
    type: str
    rank: int


class Contract(NamedTuple):
    """What a graph takes, in the order `Graph.run` does, and the one thing it gives."""

    inputs: tuple[Port, ...]
    output: Port


_IMAGE_HIDDEN = Port("image_hidden", "tensor(float)", 3)  # (B, N, Dv)
_TEXT_HIDDEN = Port("text_hidden", "tensor(float)", 3)  # (B, L, Dt)
IMAGE_TRUNK = Contract((Port("pixel_values", "tensor(float)", 4),), _IMAGE_HIDDEN)
IMAGE_TAIL = Contract((_IMAGE_HIDDEN,), Port("image_features", "tensor(float)", 2))
TEXT_TRUNK = Contract((Port("input_ids", "tensor(int64)", 2),), _TEXT_HIDDEN)
TEXT_TAIL = Contract((_TEXT_HIDDEN, Port("last_token", "tensor(int64)", 1)), Port("text_features", "tensor(float)", 2))


class Graph:
    """One ONNX graph ready to run; safe to run from several threads.

    Attributes:
        sha256: of the graph's bytes.
        tokens: how many tokens an input becomes, where the graph itself says so (an image tower's does).
    """

    def __init__(self, data: bytes, sha256: str, contract: Contract, intra_op_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what is wrong with a graph is in the exception
        # From bytes the graph has no folder, so ONNX Runtime refuses weights kept in other files.
        with refusing("signature"):
            self._session = onnxruntime.InferenceSession(data, options, providers=_providers())
        # The session keeps the file's bytes, a second copy of the weights, to fall back to the CPU with: a graph that
        # fails on the GPU shall fail, and the copy go.
        self._session.disable_fallback()
        self._session._model_bytes = None
        _check_ports(contract.inputs, self._session.get_inputs())
        _check_ports((contract.output,), self._session.get_outputs())
        self._names = [port.name for port in contract.inputs]
        self.sha256 = sha256
        second = self._session.get_outputs()[0].shape[1]
        self.tokens = second if isinstance(second, int) else None
        _return_freed_memory()

    def run(self, *inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """The output for the inputs in the contract's order; the first axis of each is the batch."""
        output: NDArray[np.float32] = self._session.run(None, dict(zip(self._names, inputs, strict=True)))[0]
        return output


class GraphPool:
    """Opens each graph once, however many versions and tasks use it; drops it when none does any more."""

    def __init__(self, store: Store, intra_op_threads: int) -> None:
        self._store = store
        self._intra_op_threads = intra_op_threads
        self._opening = threading.Lock()
        self._open: WeakValueDictionary[tuple[str, Contract], Graph] = WeakValueDictionary()

    def open(self, blob: Blob, contract: Contract) -> Graph:
        """The graph of these bytes.

        Raises:
            CorruptError: the stored bytes are not what the manifest says.
            RefusedError: `signature`, the graph does not keep the contract or cannot run here.
        """
        with self._opening:
            graph = self._open.get((blob.sha256, contract))
            if graph is None:
                graph = Graph(self._store.read(blob), blob.sha256, contract, self._intra_op_threads)
                self._open[blob.sha256, contract] = graph
            return graph

    def __len__(self) -> int:
        return len(self._open)


@functools.cache
def has_cuda() -> bool:
    """Whether wheel and machine have CUDA: asked for in vain, ONNX Runtime writes an error for every session."""
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and _has_nvidia_driver()


def _providers() -> list[str]:
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_cuda() else ["CPUExecutionProvider"]


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _return_freed_memory() -> None:
    """Give the kernel back what opening a graph has freed, a tenth of the weights; glibc would keep it."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _check_ports(expected: tuple[Port, ...], found: list[onnxruntime.NodeArg]) -> None:
    ports = {Port(node.name, node.type, len(node.shape)) for node in found}
    if ports != set(expected):
        raise RefusedError("signature", f"a graph has {sorted(ports)} where {sorted(expected)} belongs")
