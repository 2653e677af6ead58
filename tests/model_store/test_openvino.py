"""OpenVINO as a provider: whether it is there, and what it is told."""

from __future__ import annotations

import functools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from onnxruntime import OrtHardwareDeviceType

import model_store.bf16_weights
from model_store import Precision, openvino
from model_store.openvino import has_openvino, is_installed, openvino_options, openvino_session


class Options:
    """Session options that keep what they are told."""

    def add_provider_for_devices(self, devices: list, options: dict[str, str]) -> None:
        self.devices, self.told = devices, json.loads(options["load_config"])["CPU"]


@pytest.fixture
def device(monkeypatch):
    device = SimpleNamespace(ep_metadata={"OPTIMIZATION_CAPABILITIES": "BF16 FP32 INT8"})
    monkeypatch.setattr(openvino, "_device", lambda: device)
    return device


@pytest.mark.parametrize(
    ("precision", "amx", "hint"),
    [
        (Precision.FP32, True, "f32"),
        (Precision.BF16, True, "bf16"),
        (Precision.BF16, False, "bf16"),
        (Precision.INT8, True, "bf16"),
        (Precision.INT8, False, "f32"),
    ],
)
def test_a_session_is_told_precision_and_threads(device, monkeypatch, precision, amx, hint):
    monkeypatch.setattr(openvino, "has_amx", lambda: amx)
    options = Options()
    openvino_options(options, precision, threads=3)
    assert options.devices == [device]
    assert (options.told["INFERENCE_PRECISION_HINT"], options.told["INFERENCE_NUM_THREADS"]) == (hint, "3")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ("FP32 INT8", Precision.BF16),
        ("", Precision.BF16),
        ("NOBF16", Precision.BF16),
        ("FP16", Precision.FP16),
        ("BF16 FP32 INT8", Precision.FP16),
    ],
)
def test_what_it_cannot_compute_is_an_error(device, capabilities, precision):
    device.ep_metadata["OPTIMIZATION_CAPABILITIES"] = capabilities
    with pytest.raises(RuntimeError, match=f"computes no {precision} on this processor"):
        openvino_options(Options(), precision, threads=1)


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ((), False),
        (("onnx",), False),
        (("onnxruntime_ep_openvino",), False),
        (("onnxruntime_ep_openvino", "onnx"), True),
    ],
)
def test_it_is_there_if_its_packages_are(monkeypatch, installed, expected):
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: object() if name in installed else None)
    assert is_installed() is expected


@pytest.fixture
def provider(monkeypatch):
    """The provider's plug-in with the devices that a test lists; `registered` counts how often it was registered."""
    plugin = SimpleNamespace(get_ep_name=lambda: "OpenVINO", get_library_path=lambda: "plugin.so")
    found = SimpleNamespace(devices=[], registered=0)

    def register(name: str, path: str) -> None:
        found.registered += 1
        assert found.registered == 1, "ONNX Runtime refuses a name that is registered already"

    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", plugin)
    monkeypatch.setattr(openvino, "is_installed", lambda: True)
    monkeypatch.setattr(openvino.onnxruntime, "register_execution_provider_library", register)
    monkeypatch.setattr(openvino.onnxruntime, "get_ep_devices", lambda: found.devices)
    monkeypatch.setattr(openvino, "_register", functools.cache(openvino._register.__wrapped__))
    return found


def device_of(name: str, kind: OrtHardwareDeviceType) -> SimpleNamespace:
    return SimpleNamespace(ep_name=name, device=SimpleNamespace(type=kind))


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], False),
        ([("Other", OrtHardwareDeviceType.CPU)], False),
        ([("OpenVINO", OrtHardwareDeviceType.GPU)], False),
        ([("Other", OrtHardwareDeviceType.CPU), ("OpenVINO", OrtHardwareDeviceType.CPU)], True),
    ],
)
def test_it_is_usable_if_it_knows_the_processor(provider, devices, expected):
    provider.devices = [device_of(*each) for each in devices]
    assert has_openvino() is expected
    assert has_openvino() is expected


def test_threads_that_ask_at_once_register_it_once(provider, monkeypatch):
    register = openvino.onnxruntime.register_execution_provider_library
    monkeypatch.setattr(
        openvino.onnxruntime, "register_execution_provider_library", lambda *args: time.sleep(0.1) or register(*args)
    )
    provider.devices = [device_of("OpenVINO", OrtHardwareDeviceType.CPU)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: has_openvino(), range(4))) == [True] * 4


def test_a_processor_that_it_does_not_know_is_the_same_error_each_time(provider):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="does not know this processor; set MORA_RUNTIME"):
            openvino_options(Options(), Precision.INT8, threads=1)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP32])
def test_a_session_has_bf16_weights_if_it_computes_in_bf16(device, monkeypatch, precision):
    opened = []
    monkeypatch.setattr(openvino.onnxruntime, "InferenceSession", lambda graph, options: opened.append(graph))
    monkeypatch.setattr(model_store.bf16_weights, "with_bf16_weights", lambda graph: graph.upper())
    openvino_session(b"graph", Options(), precision, threads=1)
    assert opened == [b"GRAPH" if precision is Precision.BF16 else b"graph"]
