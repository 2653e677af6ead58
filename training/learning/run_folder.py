"""Run folders: the names of their files, and the rules for opening, cleaning up and discarding them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from model_store import Problem
from model_store.atomic_file import UNFINISHED, write_atomically
from training.config import TaskConfig
from training.config_paths import absolute
from training.data.row_digests import first_change, row_digests
from training.data.splits import TaskData
from training.errors import RunError
from training.model.file_names import CONFIG as ADAPTER_CONFIG
from training.model.file_names import RUN_DESCRIPTION

CONFIG = "config.json"  # configuration, labels and fingerprint of the data at the start of the run
ADAPTER = "adapter.safetensors"  # adapter and head
HEAD = "head.safetensors"  # of LoRA and DoRA; their adapter is in PEFT's files
TOWERS = "towers.safetensors"  # of an imported task: weights that replace the backbone's
ROWS = "data_rows.json"  # a digest of each row of the data at the start; runs of earlier versions do not have it
METRICS = "metrics.json"
TEST_SCORES = "test_scores.json"  # of each item; runs of earlier versions do not have it
REPORT = "report.html"
ANALYSIS = "analysis.json"  # of `mora-train analyse`
HISTORY = "history.json"  # the Trainer's log
MISSING_TABLES = "missing_tables"
CHECKPOINTS = "checkpoints"
TRUNK_CACHE = "trunk_cache"
NO_COVERAGE = {"share": 0.0, "by": "pattern"}  # of earlier versions, which set no items apart
_CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def open_run(folder: Path, config: TaskConfig, data: TaskData) -> None:
    """Make `folder` the run of this configuration on this data. Raises RunError when it holds another run."""
    settings = absolute(config.model_dump(mode="json", exclude={"export", "publish"}))  # these may change afterwards
    if config.imported is None:
        del settings["imported"]  # older runs do not have this field
    for field, without in (("probe", False), ("patience", None), ("class_weights", "none")):  # nor these
        if settings["train"][field] == without:
            del settings["train"][field]
    if not config.mora.auto:  # nor this
        del settings["mora"]["auto"]
    if config.problem is not Problem.RETRIEVAL:  # nor these
        del settings["train"]["temperature"], settings["data"]["target_image"], settings["data"]["target_text"]
    start = {"config": settings, "labels": [*data.labels], "data": data.fingerprint}
    if (folder / CONFIG).exists():
        earlier = read_json(folder / CONFIG)
        absolute(earlier.get("config", {}))  # older runs have relative paths
        earlier.setdefault("config", {}).setdefault("coverage", NO_COVERAGE)
        if data.has_fingerprint(earlier.get("data")):
            start["data"] = earlier["data"]
        changed = [name for name, value in start.items() if earlier.get(name) != value]
        if changed:
            fields = ", ".join(_differences(earlier.get("config", {}), settings)[:5])
            other = f"other {' and '.join(changed)}{f' ({fields})' if fields else ''}"
            if "data" in changed:
                other += f": {data_change(folder, data)}"
            cure = "give the configuration and data that it started with, choose another --output, or add --overwrite"
            raise RunError(f"{folder} holds a run with {other}; {cure}")
    elif is_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, start)  # first: it marks the folder as a run
    else:
        raise RunError(f"{folder} holds files, but no run; choose another --output")
    if not (folder / ROWS).is_file():
        write_json(folder / ROWS, row_digests(data))


def data_change(folder: Path, data: TaskData) -> str:
    """The first row that has changed since the run began, in words."""
    if not (folder / ROWS).is_file():
        return "which row is not known, because an earlier version made the run"
    return first_change(read_json(folder / ROWS), data) or "every row is the same, but the splits differ"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], group: str = "") -> list[str]:
    """The fields whose values differ in two configurations, each with both values."""
    fields: list[str] = []
    for name in [*now, *(before.keys() - now.keys())]:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            fields += _differences(old, new, f"{group}{name}.")
        elif old != new:
            fields.append(f"{group}{name} was {old}, now {new}")
    return fields


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder ended: its metrics are written last."""
    return (folder / METRICS).is_file() and description_file(folder).is_file()


def require_finished(folder: Path) -> None:
    """Raise RunError unless the folder holds a finished run."""
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; name the DIR of `mora-train fit --output DIR`")
    if is_finished(folder):
        return
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} holds no run; name the DIR of `mora-train fit --output DIR`")
    raise RunError(f"{folder} is not a finished run; give the same `mora-train fit` command again to finish it")


def description_file(folder: Path) -> Path:
    """The file that describes a trained task; older runs have it under PEFT's name."""
    return folder / (RUN_DESCRIPTION if (folder / RUN_DESCRIPTION).is_file() else ADAPTER_CONFIG)


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint in the folder. Incomplete ones, left by a kill, are removed."""
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in newest_first:
        if all((path / name).is_file() for name in _CHECKPOINT_FILES):
            with suppress(RunError):
                read_json(path / "trainer_state.json")
                return str(path)
        shutil.rmtree(path)
    return None


def clean_up(folder: Path) -> None:
    """Remove the files that a finished run no longer needs."""
    for name in (CHECKPOINTS, TRUNK_CACHE):
        shutil.rmtree(folder / name, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove a run, if it exists. Raises RunError rather than remove a folder that is not a run."""
    if not is_empty(folder) and not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run of mora-train, so --overwrite leaves it alone; choose another --output")
    remove(folder)


def is_empty(folder: Path) -> bool:
    """Whether a folder does not exist, or holds at most files that a killed process has left unfinished."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".") and path.suffix == UNFINISHED for path in folder.iterdir())


def remove(folder: Path) -> None:
    """Remove a folder, if it exists.

    It is renamed first, so a kill leaves no part of it under its name. The next call removes what a kill has left.
    """
    renamed = folder.absolute().with_name(f".{folder.name}.removed")
    shutil.rmtree(renamed, ignore_errors=True)
    if folder.exists():
        folder.rename(renamed)
        shutil.rmtree(renamed)


def read_report(folder: Path) -> bytes:
    """The report of a finished run. Raises RunError when it is missing."""
    try:
        return (folder / REPORT).read_bytes()
    except OSError as error:
        raise RunError(f"{folder / REPORT} cannot be read ({error}); train it again with --overwrite") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises RunError when it is missing or broken."""
    values: dict[str, Any] = _read(path, dict, "object")
    return values


def read_history(folder: Path) -> list[dict[str, float]]:
    """The Trainer's log; empty if nothing was trained. Raises RunError when it is missing or broken."""
    values: list[dict[str, float]] = _read(folder / HISTORY, list, "array")
    return values


def _read(path: Path, kind: type, name: str) -> Any:  # noqa: ANN401
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, kind):
            raise ValueError(f"it is not a JSON {name}")
        return values
    except (OSError, ValueError) as error:
        cure = f"if {path.parent} is a run of `mora-train fit`, train it again with --overwrite"
        raise RunError(f"{path} cannot be read ({error}); {cure}") from error


def write_json(path: Path, value: object) -> None:
    """Write a JSON file of a run. A kill leaves the old file or the new one."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
