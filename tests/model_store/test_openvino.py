"""OpenVINO as a provider: whether it is there, and what it is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from model_store import Precision, openvino
from model_store.openvino import has_openvino, openvino_options


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


@pytest.mark.parametrize(("found", "expected"), [(None, False), (object(), True)])
def test_it_is_there_if_its_package_is(monkeypatch, found, expected):
    asked = []
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: asked.append(name) or found)
    assert has_openvino() is expected
    assert asked == ["onnxruntime_ep_openvino"]
