"""ONNX graphs with fixed inputs and outputs, opened from verified bytes."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_store.openvino import openvino_session
from model_store.session_options import session_options
from service.models.execution import Execution, Runtime
from service.models.refusal import RefusedError, ShortageError, refusing


class Port(NamedTuple):
    """One input or output of a graph."""

    name: str
    type: str
    rank: int


class Contract(NamedTuple):
    """The inputs of a graph, in the order of `Graph.run`'s arguments, and its one output.

    `weights` are inputs after the others, without an axis for the batch.
    """

    inputs: tuple[Port, ...]
    output: Port
    weights: tuple[Port, ...] = ()


Array: TypeAlias = NDArray[np.generic] | onnxruntime.OrtValue  # an OrtValue is in the memory of the graphs' device

_DEFAULT = Execution()
_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {
    "use_tf32": "0",  # fp32 answers as on a CPU; fp16 is there for speed
    "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive search would run again for each batch size
}
_NO_CUDA = (
    "there is a GPU, but ONNX Runtime cannot use it; install CUDA 13 and cuDNN 9 (pip install 'mora-serve[gpu,cuda]'), "
    "or hide the GPU with CUDA_VISIBLE_DEVICES="
)
_THREAD_BYTES = 16 * 2**20  # of address space that are free before a thread starts: its stack, and its first steps
_IMAGE_HIDDEN = Port("image_hidden", "tensor(float)", 3)  # (B, N, Dv)
_TEXT_HIDDEN = Port("text_hidden", "tensor(float)", 3)  # (B, L, Dt)
IMAGE_TRUNK = Contract((Port("pixel_values", "tensor(float)", 4),), _IMAGE_HIDDEN)
IMAGE_TAIL = Contract((_IMAGE_HIDDEN,), Port("image_features", "tensor(float)", 2))
TEXT_TRUNK = Contract((Port("input_ids", "tensor(int64)", 2),), _TEXT_HIDDEN)
TEXT_TAIL = Contract((_TEXT_HIDDEN, Port("last_token", "tensor(int64)", 1)), Port("text_features", "tensor(float)", 2))
CONTRACTS = {"image_trunk": IMAGE_TRUNK, "image_tail": IMAGE_TAIL, "text_trunk": TEXT_TRUNK, "text_tail": TEXT_TAIL}


class Graph:
    """One ONNX graph ready to run; safe to run from several threads.

    Raises RefusedError: `signature` when the graph does not match the contract or uses what the runtime lacks, `load`
    when the machine lacks memory or threads.

    Attributes:
        sha256: of the graph's bytes.
        input_names: in the order of `run`'s arguments.
        tokens: number of tokens of one input, if the graph fixes it. The graph of an image tower does.
        device: `cpu` or `cuda`.
        execution: what runs it. A run of OpenVINO cannot be stopped: it goes on after its `options` say so.

    Args:
        longest: maximum number of tokens of a text, to which shorter ones may be padded; None for images.
    """

    def __init__(
        self,
        data: bytes,
        sha256: str,
        contract: Contract,
        intra_op_threads: int,
        execution: Execution = _DEFAULT,
        longest: int | None = None,
    ) -> None:
        options = session_options()
        options.intra_op_num_threads = intra_op_threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.log_severity_level = 4  # the exception describes the error
        # Weights in other files would be read unverified from the working directory; this folder has no files.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        _check_threads(intra_op_threads)
        with refusing("signature"):
            if execution.runtime is Runtime.OPENVINO:
                self._session = openvino_session(data, options, execution.precision, intra_op_threads)
            else:
                self._session = onnxruntime.InferenceSession(data, options, providers=providers())
        self.device = "cuda" if self._session.get_providers()[0] == _CUDA else "cpu"
        if self.device == "cpu" and execution.runtime is Runtime.ONNXRUNTIME and has_cuda():  # it only prints an error
            raise RefusedError("load", _NO_CUDA)
        # A fallback to the CPU would hide the failure of a graph on the GPU. Only the fallback needs the file's bytes,
        # which are a second copy of the weights.
        self._session.disable_fallback()
        self._session._model_bytes = None
        _check_ports(contract, self._session)
        self.input_names = [port.name for port in (*contract.inputs, *contract.weights)]
        self._contract = contract
        self._longest = longest
        self.execution = execution
        self.sha256 = sha256
        length = self._session.get_outputs()[0].shape[1]
        self.tokens = length if isinstance(length, int) else None

    def run(self, *inputs: Array, options: onnxruntime.RunOptions | None = None) -> NDArray[np.float32]:
        """The output for the inputs in the contract's order; the first axis of each but the weights is the batch.

        Args:
            options: setting their `terminate` stops the run, which then raises.
        """
        return on_host(self.run_on_device(*inputs, options=options))

    def run_on_device(self, *inputs: Array, options: onnxruntime.RunOptions | None = None) -> Array:
        """Like `run`, but the output stays in the memory of the device for the next graph."""
        if self.execution.runtime is Runtime.OPENVINO:
            return self._run_padded(inputs, options)
        return self._run(inputs, options)

    def _run_padded(self, inputs: Sequence[Array], options: onnxruntime.RunOptions | None) -> Array:
        """Run with zeros after the inputs, so that their shapes are few: OpenVINO keeps memory for each shape."""
        rows, *rest = inputs[0].shape if isinstance(inputs[0], np.ndarray) else inputs[0].shape()
        more = [(0, few_sizes(rows) - rows)]
        if self._longest is not None:
            more.append((0, min(few_sizes(rest[0]), self._longest) - rest[0]))
        if not any(added for _, added in more):
            return self._run(inputs, options)
        unchanged, count = [(0, 0)] * 4, len(self._contract.inputs)
        arrays = [on_host(array) for array in inputs[:count]]
        padded = [np.pad(array, (more + unchanged)[: array.ndim]) for array in arrays]
        output = on_host(self._run([*padded, *inputs[count:]], options))
        return output[:rows, : rest[0]] if self._longest is not None and output.ndim == 3 else output[:rows]

    def _run(self, inputs: Sequence[Array], options: onnxruntime.RunOptions | None) -> Array:
        binding = self._session.io_binding()
        arrays = [array if isinstance(array, onnxruntime.OrtValue) else np.ascontiguousarray(array) for array in inputs]
        for name, value in zip(self.input_names, arrays, strict=True):
            if isinstance(value, onnxruntime.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, value)
        binding.bind_output(self._contract.output.name, self.device)
        self._session.run_with_iobinding(binding, options)
        return binding.get_outputs()[0]


def few_sizes(number: int) -> int:
    """The number rounded up to one of few: 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    step = 1 << max(0, number.bit_length() - 2)
    return -(-number // step) * step


def on_host(array: Array) -> NDArray[Any]:
    """The array in NumPy's memory."""
    return array if isinstance(array, np.ndarray) else array.numpy()


@functools.cache
def has_cuda() -> bool:
    """Whether ONNX Runtime is built with CUDA and the driver shows a GPU (`CUDA_VISIBLE_DEVICES=` hides it).

    Without this check, ONNX Runtime would log an error for every session. Loads the CUDA libraries of Python packages.
    """
    if _CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return False
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return False
    with contextlib.redirect_stdout(None):  # libraries that it does not find may be on the system
        onnxruntime.preload_dlls()
    return True


def providers() -> list[str | tuple[str, dict[str, str]]]:
    """The execution providers of this machine, fastest first."""
    return [(_CUDA, _CUDA_OPTIONS), "CPUExecutionProvider"] if has_cuda() else ["CPUExecutionProvider"]


@functools.cache
def _share_arena() -> None:
    """Share one memory arena among all graphs. By default each graph keeps an arena as large as its largest run."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def _check_threads(count: int) -> None:
    """Start and end `count` threads. Raises ShortageError.

    ONNX Runtime never returns if the system refuses only some of the threads of a session. Nor does `Thread.start` if
    the new thread lacks memory for its first steps.
    """
    let_go, started = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(count):
            mmap.mmap(-1, _THREAD_BYTES).close()
            thread = threading.Thread(target=let_go.wait)
            thread.start()
            started.append(thread)
    except (OSError, RuntimeError, MemoryError) as error:
        cure = "raise the limits of threads and memory, or lower MORA_INTRA_OP_THREADS"
        raise ShortageError(f"a graph needs {count} threads, and only {len(started)} start; {cure}") from error
    finally:
        let_go.set()
        for thread in started:
            thread.join()


def _check_ports(contract: Contract, session: onnxruntime.InferenceSession) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for expected, nodes in (((*contract.inputs, *contract.weights), inputs), ((contract.output,), outputs)):
        ports = {Port(node.name, node.type, len(node.shape)) for node in nodes}
        if ports != set(expected):
            raise RefusedError("signature", f"a graph has {sorted(ports)}, expected {sorted(expected)}")
    batched = {contract.output.name, *(port.name for port in contract.inputs)}
    if any(node.name in batched and isinstance(node.shape[0], int) for node in (*inputs, *outputs)):
        # Golden examples, which run one by one, would pass.
        raise RefusedError("signature", "a graph takes batches of one size only")
