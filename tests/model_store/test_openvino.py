"""OpenVINO as a provider: whether it is there, and what it is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import model_store.bf16_weights
from model_store import Precision, openvino
from model_store.openvino import has_openvino, openvino_options, openvino_session


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
    assert has_openvino() is expected


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP32])
def test_a_session_has_bf16_weights_if_it_computes_in_bf16(device, monkeypatch, precision):
    opened = []
    monkeypatch.setattr(openvino.onnxruntime, "InferenceSession", lambda graph, options: opened.append(graph))
    monkeypatch.setattr(model_store.bf16_weights, "with_bf16_weights", lambda graph: graph.upper())
    openvino_session(b"graph", Options(), precision, threads=1)
    assert opened == [b"GRAPH" if precision is Precision.BF16 else b"graph"]
