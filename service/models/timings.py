"""How long each execution of a tower takes on this machine: measured, because no list of processors tells it."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime
import structlog

from model_store import Blob, Manifest, Store
from model_store.atomic_file import write_atomically
from model_store.openvino import PACKAGE
from model_store.processor import processor_fields
from service.models.execution import Execution
from service.models.loaded_model import TOWER_NAMES, TowerName

Seconds: TypeAlias = dict[Execution, float]
_TOWER_SECONDS = 2.0  # to time one tower in all executions
_PROCESS_SECONDS = 120.0
_RETRY_SECONDS = 600.0  # after a failure, which may have been a shortage
_TEXT_TOKENS = 16
_log = structlog.get_logger()


class Timings:
    """Times the trunks of versions, each once, in a process of its own.

    Args:
        threads: of a run.
        path: file that keeps the times from start to start, of several machines; None keeps them for this process.
    """

    def __init__(self, store: Store, threads: int, path: Path | None) -> None:
        self._store = store
        self._threads = threads
        self._path = path
        self._known: dict[str, float] = _read(path).get(_machine(), {}) if path else {}
        self._failed: dict[str, float] = {}  # when
        self._measuring = threading.Lock()

    def measure(self, manifest: Manifest, ways: Sequence[Execution]) -> dict[TowerName, Seconds]:
        """The time of a run of each tower in those executions that run here. Blocking, for some seconds."""
        pairs = [(modality, way) for modality in TOWER_NAMES for way in ways]
        keys = {pair: self._key(manifest, *pair) for pair in pairs}
        with self._measuring:
            tried = {key for key, when in self._failed.items() if time.monotonic() < when + _RETRY_SECONDS}
            if missing := [pair for pair in pairs if keys[pair] not in tried | self._known.keys()]:
                self._run(manifest, missing, _TOWER_SECONDS / len(ways))
                self._keep()
        return {
            modality: {way: self._known[keys[modality, way]] for way in ways if keys[modality, way] in self._known}
            for modality in TOWER_NAMES
        }

    def _key(self, manifest: Manifest, modality: TowerName, way: Execution) -> str:
        return f"{_trunk(manifest, modality, way).sha256} {way} {self._threads} threads"

    def _run(self, manifest: Manifest, pairs: Sequence[tuple[TowerName, Execution]], most_seconds: float) -> None:
        shapes = {
            "image": [1, 3, *manifest.image.output_size],
            "text": [1, min(_TEXT_TOKENS, manifest.text.max_length)],
        }
        jobs = [
            {
                "modality": modality,
                "runtime": way.runtime,
                "precision": way.precision,
                "blob": _trunk(manifest, modality, way).model_dump(),
                "shape": shapes[modality],
                "most_seconds": most_seconds,
            }
            for modality, way in pairs
        ]
        request = {"store": str(self._store.root.absolute()), "threads": self._threads, "jobs": jobs}
        answers, end = _ask(request)
        for pair, answer in zip(pairs, [*answers, *[{"problem": end}] * len(pairs)], strict=False):
            key = self._key(manifest, *pair)
            if "seconds" in answer:
                self._known[key] = answer["seconds"]
                continue
            self._failed[key] = time.monotonic()
            _log.warning("execution_unusable", execution=str(pair[1]), modality=pair[0], problem=answer["problem"])
            if answer["problem"] == end:  # it ended the process, so the others were not run
                return

    def _keep(self) -> None:
        if self._path is None:
            return
        try:
            content = json.dumps({**_read(self._path), _machine(): self._known}, indent=1)
            write_atomically(self._path, content.encode())
        except OSError as error:
            _log.warning("timings_not_kept", problem=f"{self._path}: {error.strerror}; check MORA_TIMINGS_FILE")


def _trunk(manifest: Manifest, modality: TowerName, way: Execution) -> Blob:
    return manifest.graphs[way.precision].blobs()[f"{modality}_trunk"]


def _ask(request: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The answers of the process to its jobs, in their order, and how it ended. It may end before the last answer."""
    command = [sys.executable, "-m", "service.models.timing_child"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError as error:
        return [], f"no process to time it can be started: {error.strerror}"
    with process:
        try:
            output, _ = process.communicate(json.dumps(request), timeout=_PROCESS_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    return [json.loads(line) for line in output.splitlines()], f"the process that timed it ended ({process.returncode})"


def _read(path: Path) -> dict[str, dict[str, float]]:
    """The times of each machine; none for a file that is not there or not a file of times."""
    try:
        content = json.loads(path.read_bytes())
        return {
            str(machine): {str(key): float(value) for key, value in times.items()} for machine, times in content.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        _log.warning("timings_unreadable", problem=f"{path}: {error}; it is written anew")
        return {}


def _machine() -> str:
    """The processor with its instructions, and the versions of what runs the graphs."""
    fields = processor_fields()
    instructions = hashlib.sha256(fields.get("flags", "").encode()).hexdigest()[:8]
    processor = f"{fields.get('model name', platform.machine())} {instructions}"
    return f"{processor}, onnxruntime {onnxruntime.__version__}, OpenVINO provider {version(PACKAGE)}"
