"""A checkpoint that cannot be written is one line, and leaves nothing behind."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import RunError
from training.learning.checkpoints import whole_checkpoint, write_fault
from training.learning.run_folder import last_checkpoint
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def full(number: int, says: str) -> OSError:
    return OSError(number, says, "trainer_state.json")


FAULTS = {
    "no space": (full(errno.ENOSPC, "No space left on device"), "trainer_state.json: No space left on device"),
    "quota": (full(errno.EDQUOT, "Disk quota exceeded"), "trainer_state.json: Disk quota exceeded"),
    "read only": (full(errno.EROFS, "Read-only file system"), "trainer_state.json: Read-only file system"),
    "safetensors": (SafetensorError("I/O error: No space left on device"), "I/O error: No space left on device"),
    "torch": (RuntimeError("[enforce fail] . PytorchStreamWriter failed\nframe"), "could not be written whole"),
    "torch's end": (RuntimeError("[enforce fail] . unexpected pos 64 vs 0"), "could not be written whole"),
}


@pytest.mark.parametrize(("error", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_disk_removes_the_checkpoint(tmp_path: Path, error: Exception, says: str) -> None:
    folder = tmp_path / "checkpoint-8"

    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"half")

    with pytest.raises(RunError, match=says) as raised, whole_checkpoint(folder):
        raise error

    assert "\n" not in str(raised.value)
    assert "MB are free there" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), RuntimeError("")])
def test_another_error_stays(tmp_path: Path, error: RuntimeError) -> None:
    with pytest.raises(RuntimeError) as raised, whole_checkpoint(tmp_path / "checkpoint-8"):
        raise error

    assert raised.value is error
    assert write_fault(error) is None


@pytest.mark.slow
def test_training_on_a_full_disk_keeps_the_checkpoint_before_and_goes_on_from_it(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = make_config(train={"epochs": 3, "batch_size": 12}), tmp_path / "run"
    data = load_data(config)

    def fail(state: object, path: str) -> None:
        if "checkpoint-4" in path:
            raise full(errno.ENOSPC, "No space left on device")
        save(state, path)

    from transformers import TrainerState

    save = TrainerState.save_to_json
    with monkeypatch.context() as patch:
        patch.setattr(TrainerState, "save_to_json", fail)
        with pytest.raises(RunError, match=r"checkpoint-4 could not be written: .* give the same command again"):
            fit(config, data, run, lambda _: None)

    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert str(last_checkpoint(run / "checkpoints")).endswith("checkpoint-2")
    fit(config, data, run, lambda _: None)
    assert not (run / "checkpoints").exists()
