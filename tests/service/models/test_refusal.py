from __future__ import annotations

import errno

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from safetensors import SafetensorError

from model_store import CorruptError, NotFoundError
from service.errors import Code, ServiceError
from service.models.refusal import RefusedError, ShortageError, is_final, reason_of, refusing


class PanicError(BaseException):
    """Such as the exceptions of Rust libraries, which are no `Exception`."""


SHORTAGES = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error"),
    TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    RuntimeError("can't start new thread"),
    RuntimeError("env.cc:327 PosixThread pthread_create failed, error code: 11"),
    RuntimeError("Error in execution: running MatMul node. bfc_arena.cc:360 AllocateRawInternal"),
    RuntimeError("Error in execution: running Gemm node. CUDA failure 2: out of memory"),
    RuntimeError("Error in execution: running MatMul node. CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"),
    runtime.RuntimeException("Exception during initialization: std::bad_alloc"),
    runtime.Fail("running MatMul node. Failed to allocate memory for requested buffer of size 64"),
    OSError("out of memory error when reading image file"),
]
FAULTS = [
    runtime.Fail("Fatal error: evil:MatMul(-1) is not a registered function/op"),
    runtime.InvalidGraph("This is an invalid model"),
    runtime.InvalidProtobuf("protobuf parsing failed"),
    runtime.InvalidArgument("No graph was found in the protobuf"),
    RuntimeError("Error in execution: running Gather node. indices element out of data bounds"),
    RuntimeError("SystemError : 20"),
    Exception("data did not match any variant of untagged enum ModelUntagged"),
    SafetensorError("HeaderTooSmall"),
    KeyError("both.weight"),
    ServiceError(Code.MODEL_NONFINITE, "not finite"),
]
UNKNOWN = [
    RuntimeError("something else"),
    AttributeError("none"),
    ZeroDivisionError(),
    PanicError("PyObject pointer is null"),
    runtime.RuntimeException("unknown"),
    runtime.EPFail("the provider failed"),
]


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (RefusedError("head", ""), "head", True),
        (RefusedError("load", ""), "load", False),
        (ShortageError(""), "load", False),
        (CorruptError("", "sha256"), "sha256", False),
        (NotFoundError(""), "missing", False),
    ],
)
def test_a_refusal_is_final_only_if_it_depends_on_the_version_alone(error, reason, final):
    assert (reason_of(error), is_final(error)) == (reason, final)


def refusal(error: BaseException) -> RefusedError:
    with pytest.raises(RefusedError) as caught, refusing("head"):
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value) == f"{type(error).__name__}: {error}"
    return caught.value


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_an_exception_that_proves_a_fault_of_the_content_is_final(error):
    assert (refusal(error).reason, is_final(refusal(error))) == ("head", True)


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_a_shortage_may_pass(error):
    assert isinstance(refusal(error), ShortageError)
    assert refusal(error).reason == "load"


@pytest.mark.parametrize("error", UNKNOWN, ids=repr)
def test_every_other_exception_may_pass_and_is_no_shortage(error):
    assert refusal(error).reason == "load"
    assert not isinstance(refusal(error), ShortageError)


@pytest.mark.parametrize("cause", SHORTAGES, ids=repr)
def test_an_error_that_a_shortage_caused_is_a_shortage(cause):
    damaged = ServiceError(Code.IMAGE_UNDECODABLE, "The PNG file is damaged.")
    damaged.__cause__ = ValueError("damaged")
    damaged.__cause__.__cause__ = cause

    assert isinstance(refusal(damaged), ShortageError)


@pytest.mark.parametrize("error", [CorruptError("", "size"), RefusedError("signature", ""), KeyboardInterrupt()])
def test_errors_of_the_store_refusals_and_signals_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, refusing("head"):
        raise error
    assert caught.value is error
