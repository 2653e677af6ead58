"""Checkpoints that are whole or absent: a write that fails, as on a full disk, leaves no part of one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from model_store.messages import describe_os_error
from training.errors import RunError

_TORCH_WRITER = ("PytorchStreamWriter", "unexpected pos")  # in torch's RuntimeError for a file that it cannot write


@contextmanager
def whole_checkpoint(folder: Path) -> Iterator[None]:
    """Remove the checkpoint in `folder` if it cannot be written. Raises RunError, which names the cause."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        cause = write_fault(error)
        if cause is None:
            raise
        free = shutil.disk_usage(folder.parent).free / 1e6
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(
            f"checkpoint {folder} could not be written: {cause} ({free:,.1f} MB are free there); make room on the disk "
            "and give the same command again, which goes on from the last whole checkpoint"
        ) from error


def write_fault(error: Exception) -> str | None:
    """The reason in one line why a file could not be written; None for another error."""
    if isinstance(error, OSError):
        return describe_os_error(error).partition(";")[0]
    if isinstance(error, SafetensorError):
        return str(error).partition("\n")[0]
    return "its file could not be written whole" if any(name in str(error) for name in _TORCH_WRITER) else None
