"""OpenVINO as an execution provider of ONNX Runtime: the optional package `onnxruntime-ep-openvino`.

It computes fp32 graphs in bf16 where the processor can, which ONNX Runtime's own provider does not. It also runs int8
graphs with fixed scales, and what they leave in fp32 in bf16 where AMX makes that fast.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import threading

import onnxruntime

from model_store.manifest import Precision
from model_store.processor import has_amx

PACKAGE = "onnxruntime-ep-openvino"
_MODULES = ("onnxruntime_ep_openvino", "onnx")  # of the extra `openvino`
_REGISTERING = threading.Lock()


def is_installed() -> bool:
    """Whether the extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in _MODULES)


def has_openvino() -> bool:
    """Whether the extra is installed and knows this processor, as those of Intel. Only a run shows whether it works."""
    return is_installed() and _device() is not None


def is_fast() -> bool:
    """Whether it runs on a processor with AMX, where it is known to work and multiplies in bf16."""
    return has_amx() and has_openvino()


def openvino_session(
    graph: bytes, options: onnxruntime.SessionOptions, precision: Precision, threads: int
) -> onnxruntime.InferenceSession:
    """A graph that OpenVINO computes in this precision. Raises as `openvino_options`, and the errors of the graph.

    At bf16 the graph is an fp32 one, and its inputs that are weights take bf16 (`model_store.bf16_weights`).
    """
    openvino_options(options, precision, threads)
    if precision is Precision.BF16:
        from model_store.bf16_weights import with_bf16_weights  # else OpenVINO would keep the fp32 weights, too

        graph = with_bf16_weights(graph)
    return onnxruntime.InferenceSession(graph, options)


def openvino_options(options: onnxruntime.SessionOptions, precision: Precision, threads: int) -> None:
    """Let OpenVINO run the session that is opened with these options.

    Raises RuntimeError if the provider or the processor cannot run graphs in this precision.
    """
    device = _device()
    if device is None:
        raise RuntimeError("OpenVINO does not know this processor; set MORA_RUNTIME and MORA_PRECISION to auto")
    has_bf16 = "BF16" in device.ep_metadata.get("OPTIMIZATION_CAPABILITIES", "").split()
    if precision is Precision.FP16 or (precision is Precision.BF16 and not has_bf16):
        raise RuntimeError(f"OpenVINO computes no {precision} on this processor")
    in_bf16 = precision is Precision.BF16 or (precision is Precision.INT8 and has_amx())
    cpu = {
        "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": "NO",  # or the graphs of both towers would be bound to the same cores
    }
    options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": cpu})})


def _device() -> onnxruntime.OrtEpDevice | None:
    """The processor, as the provider's device; None if the provider does not know it."""
    with _REGISTERING:  # two versions may be loaded at once, and ONNX Runtime refuses a name that it has
        return _register()


@functools.cache
def _register() -> onnxruntime.OrtEpDevice | None:
    import onnxruntime_ep_openvino as plugin

    onnxruntime.register_execution_provider_library("openvino", plugin.get_library_path())
    for device in onnxruntime.get_ep_devices():
        if device.ep_name == plugin.get_ep_name() and device.device.type == onnxruntime.OrtHardwareDeviceType.CPU:
            return device
    return None
