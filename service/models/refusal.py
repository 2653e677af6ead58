"""The errors of loading an intact version, in addition to the errors of the store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from safetensors import SafetensorError

from model_store import StoreError
from service.errors import ServiceError

# Only these exact types prove that the content is at fault; a subclass of one may mean anything.
_PROOFS = (
    *(runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.InvalidProtobuf),
    *(runtime.NoModel, runtime.NotImplemented),
    *(SafetensorError, KeyError, OverflowError, ServiceError, UnicodeDecodeError, ValueError),
    Exception,  # of tokenizers, which has no types of its own
)
# Errors of ONNX Runtime without a type: a step of a graph that fails, and a file outside of the graph (ENOTDIR).
_PROOF = re.compile("Error in execution: |SystemError : 20$")
_SHORTAGE = re.compile(
    r"bad_alloc|bfc_arena|allocat|out of memory|start new thread|pthread|temporarily unavailable|"
    r"(cuda|cublas|cudnn|cufft)\w* (failure|error)",
    re.IGNORECASE,
)


class RefusedError(Exception):
    """The version cannot be served.

    `reason` is one word for logs: `precision`, `signature`, `tokenizer`, `head`, `golden_mismatch`, or `load` for every
    error that the content does not prove. Such an error may go away.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ShortageError(RefusedError):
    """Memory, threads, open files or time did not suffice, so nothing is known about the version."""

    def __init__(self, message: str) -> None:
        super().__init__("load", message)


def reason_of(error: StoreError | RefusedError) -> str:
    """The error in one word."""
    return str(getattr(error, "reason", "missing"))


def is_final(error: StoreError | RefusedError) -> bool:
    """Whether every attempt to load the same bytes fails. An error of the disk may go away."""
    return isinstance(error, RefusedError) and error.reason != "load"


@contextmanager
def refusing(reason: str, item: str = "") -> Iterator[None]:
    """Turn every exception of the block into a RefusedError: the libraries that open a model raise any kind.

    The RefusedError has `reason` if the exception proves that the content is at fault, else `load`.

    Args:
        item: the input that the block answers, for the message.
    """
    try:
        yield
    except (RefusedError, StoreError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the panics of Rust libraries are no Exceptions
        message = (
            f"no answer to {item}: {type(error).__name__}: {error}" if item else f"{type(error).__name__}: {error}"
        )
        if _is_shortage(error):
            raise ShortageError(message) from error
        raise RefusedError(reason if _proves_a_fault(error) else "load", message) from error


def _is_shortage(error: BaseException) -> bool:
    """Whether the exception, or the one that caused it, says that the machine lacks something."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        return True
    return bool(_SHORTAGE.search(str(error))) or (error.__cause__ is not None and _is_shortage(error.__cause__))


def _proves_a_fault(error: BaseException) -> bool:
    return type(error) in _PROOFS or (type(error) is RuntimeError and bool(_PROOF.match(str(error))))
