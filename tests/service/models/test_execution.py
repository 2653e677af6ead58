"""Which executions a version and the settings allow."""

from __future__ import annotations

import pytest

from model_store import Precision
from service.models.execution import Execution, Runtime, executions
from service.models.refusal import RefusedError

FP32, BF16, INT8, FP16 = Precision.FP32, Precision.BF16, Precision.INT8, Precision.FP16
OWN, OPENVINO = Runtime.ONNXRUNTIME, Runtime.OPENVINO
ALL = [*Precision]


def allowed(available, precision="auto", runtime="auto", *, has_openvino=False, on_gpu=False, **more):
    return executions(available, precision, runtime, has_openvino=has_openvino, on_gpu=on_gpu, **more)


@pytest.mark.parametrize(
    ("available", "on_gpu", "first"),
    [
        ([FP32], False, FP32),
        ([FP32], True, FP32),
        ([FP32, INT8], False, INT8),
        ([FP32, INT8], True, FP32),
        ([FP32, FP16], False, FP32),
        ([FP32, FP16], True, FP16),
        (ALL, False, INT8),
        (ALL, True, FP16),
        ([FP32, BF16], False, FP32),
    ],
)
@pytest.mark.parametrize("has_openvino", [False, True])
def test_where_nothing_is_measured_onnx_runtime_runs_the_fastest_for_the_device(available, on_gpu, first, has_openvino):
    assert allowed(available, on_gpu=on_gpu, has_openvino=has_openvino)[0] == Execution(OWN, first)


@pytest.mark.parametrize(
    ("available", "precision", "runtime", "ways"),
    [
        (ALL, "auto", "auto", [(OWN, INT8), (OWN, FP32), (OPENVINO, INT8), (OPENVINO, BF16), (OPENVINO, FP32)]),
        ([FP32], "auto", "auto", [(OWN, FP32), (OPENVINO, FP32)]),
        (ALL, "auto", "onnxruntime", [(OWN, INT8), (OWN, FP32)]),
        (ALL, "auto", "openvino", [(OPENVINO, INT8), (OPENVINO, BF16), (OPENVINO, FP32)]),
        (ALL, "fp32", "auto", [(OWN, FP32), (OPENVINO, FP32)]),
        (ALL, "bf16", "auto", [(OPENVINO, BF16)]),
        (ALL, "int8", "auto", [(OWN, INT8), (OPENVINO, INT8)]),
        (ALL, "fp16", "auto", [(OWN, FP16)]),
        (ALL, "fp32", "openvino", [(OPENVINO, FP32)]),
    ],
)
def test_the_settings_narrow_what_a_version_allows(available, precision, runtime, ways):
    assert allowed(available, precision, runtime, has_openvino=True) == [Execution(*way) for way in ways]


@pytest.mark.parametrize(
    ("precision", "ways"),
    [("auto", [(OWN, INT8), (OWN, FP32), (OPENVINO, BF16), (OPENVINO, FP32)]), ("int8", [(OWN, INT8)])],
)
def test_openvino_runs_no_int8_whose_scales_depend_on_the_batch(precision, ways):
    assert allowed(ALL, precision, has_openvino=True, fixed_scales=False) == [Execution(*way) for way in ways]


def test_a_gpu_runs_what_openvino_is_not_named_for():
    assert allowed(ALL, has_openvino=True, on_gpu=True) == [Execution(OWN, FP16)]
    assert allowed(ALL, runtime="openvino", has_openvino=True, on_gpu=True)[0] == Execution(OPENVINO, INT8)


@pytest.mark.parametrize(
    ("available", "precision", "runtime", "has_openvino", "cure"),
    [
        ([FP32, FP16], "int8", "auto", False, "has fp16 and fp32, not int8; set MORA_PRECISION to auto"),
        ([FP32], "bf16", "auto", True, "has fp32, not bf16; set MORA_PRECISION to auto"),
        (
            ALL,
            "bf16",
            "auto",
            False,
            r"MORA_PRECISION=bf16 needs OpenVINO, .* \(pip install 'mora-serve\[openvino\]'\) or does not",
        ),
        (ALL, "auto", "openvino", False, "MORA_RUNTIME=openvino needs OpenVINO"),
        (ALL, "bf16", "onnxruntime", True, "the runtime onnxruntime runs no bf16; set MORA_RUNTIME"),
        (ALL, "fp16", "openvino", True, "the runtime openvino runs no fp16"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_cure(available, precision, runtime, has_openvino, cure):
    with pytest.raises(RefusedError, match=cure) as raised:
        allowed(available, precision, runtime, has_openvino=has_openvino)
    assert raised.value.reason == "precision"
