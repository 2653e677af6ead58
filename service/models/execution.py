"""The ways to compute a tower: a runtime and a precision."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from model_store import Precision
from service.models.refusal import RefusedError

_ON_GPU = (Precision.FP16, Precision.FP32)  # int8 would run on the CPU
_ON_CPU = (Precision.INT8, Precision.FP32)  # fp16 would be converted to fp32 at every step
_BY_OPENVINO = (Precision.INT8, Precision.BF16, Precision.FP32)


class Runtime(StrEnum):
    """What runs a graph. OpenVINO does so as a provider of ONNX Runtime."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class Execution(NamedTuple):
    """A runtime and a precision."""

    runtime: Runtime = Runtime.ONNXRUNTIME
    precision: Precision = Precision.FP32

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


def executions(
    available: Collection[Precision],
    precision: str,
    runtime: str,
    *,
    has_openvino: bool,
    on_gpu: bool,
    fixed_scales: bool = True,
) -> list[Execution]:
    """The executions that a version and the settings allow. The first is used where none is measured.

    A named precision or runtime is never replaced: the operator relies on its speed or on its answers. Raises
    RefusedError `precision` if there is none.

    Args:
        available: the precisions that the version has.
        precision, runtime: the settings.
        fixed_scales: those of the int8 graphs. OpenVINO would run others many times slower than ONNX Runtime.
    """
    own: tuple[Precision, ...] = _ON_CPU
    by_openvino: tuple[Precision, ...] = _BY_OPENVINO if fixed_scales else _BY_OPENVINO[1:]
    if on_gpu and runtime != Runtime.OPENVINO:
        own, by_openvino = _ON_GPU[: 1 if Precision.FP16 in available else None], ()
    if precision != "auto":
        named = Precision(precision)
        own, by_openvino = tuple({named} - {Precision.BF16}), tuple({named} & {*by_openvino})
    ways = []
    if runtime != Runtime.OPENVINO:
        ways += [Execution(Runtime.ONNXRUNTIME, each) for each in own if each in available]
    if runtime != Runtime.ONNXRUNTIME and has_openvino:
        ways += [Execution(Runtime.OPENVINO, each) for each in by_openvino if each in available]
    if not ways:
        raise RefusedError("precision", _problem(available, precision, runtime, has_openvino=has_openvino))
    return ways


def _problem(available: Collection[Precision], precision: str, runtime: str, *, has_openvino: bool) -> str:
    if precision != "auto" and precision not in available:
        has = " and ".join(sorted(available))
        cure = f"set MORA_PRECISION to auto, or publish a version with {precision} (export.precisions)"
        return f"the version has {has}, not {precision}; {cure}"
    if not has_openvino and (runtime == Runtime.OPENVINO or precision == Precision.BF16):
        needed = f"MORA_RUNTIME={runtime}" if runtime == Runtime.OPENVINO else f"MORA_PRECISION={precision}"
        missing = "is not installed (pip install 'mora-serve[openvino]') or does not know this processor"
        return f"{needed} needs OpenVINO, which {missing}; set MORA_RUNTIME and MORA_PRECISION to auto"
    return f"the runtime {runtime} runs no {precision}; set MORA_RUNTIME or MORA_PRECISION to auto"
