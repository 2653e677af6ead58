"""A bulk job that is killed: every row once, with the answer that the service gives, whenever that happens."""

from __future__ import annotations

import base64
import importlib.util
import os
import random
import secrets
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import service.labelling.bulk
from tests.support.faults.asking import as_json, ask
from tests.support.faults.killing import Killed, killed_at
from tests.support.made_data_set import label_data, write_data_set
from tests.support.tiny import PIXELS, Shelf
from tests.support.waiting import eventually, wait_until

_ROOT = Path(__file__).parents[3]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="killed bulk jobs are NOT tested: they need the extra ray"
)
_PART_ROWS = 11
_NO_ROWS = (pa.ArrowException, OSError)


def rows_of(output: Path) -> list[dict]:
    table = pq.read_table(output)
    return table.select([name for name in table.column_names if name != "text"]).to_pylist()  # one of them is no UTF-8


def killed_everywhere(source: Path, folder: Path, store: Path, expected: list[dict]) -> tuple[int, int]:
    """How often a job was killed, at each change of the file system it makes, and how many outputs are wrong then."""
    kills = wrong = 0
    while True:
        output = folder / f"out{kills}"
        try:
            with killed_at(kills + 1):
                label_data(source, output, store, part_rows=_PART_ROWS)
            return kills, wrong
        except Killed:
            kills += 1
        try:
            label_data(source, output, store, part_rows=_PART_ROWS)
            assert [path.name for path in output.iterdir() if path.name.startswith(".")] == []
            wrong += rows_of(output) != expected
        except _NO_ROWS:
            wrong += 1


@pytest.mark.slow
def test_a_job_killed_at_any_file_change_resumes_to_the_same_output(tmp_path, shelf, reliability):
    shelf.publish("fruit")
    expected = write_data_set(tmp_path / "in", PIXELS, rows=40)
    label_data(tmp_path / "in", tmp_path / "whole", shelf.store.root, part_rows=_PART_ROWS)
    whole = rows_of(tmp_path / "whole")
    assert [row["id"] for row in whole] == [row["id"] for row in expected]

    kills, wrong = killed_everywhere(tmp_path / "in", tmp_path, shelf.store.root, whole)

    assert kills > 10
    measured = f"{kills} deaths, one at each change of the file system; {wrong} wrong outputs"
    reliability("bulk: rows lost or doubled by a death and a resume", "0", measured, wrong == 0)


@contextmanager
def written_in_place(path: Path):
    with path.open("xb") as file:
        yield file


def ids_after_a_kill_in_a_part(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ids of the output of a job that was killed when half of a part was written, and then resumed."""
    shelf.publish("fruit")
    write_data_set(tmp_path / "in", PIXELS, rows=40)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root
    write = pq.ParquetWriter.write_table

    def dying(writer: pq.ParquetWriter, table: pa.Table) -> None:
        write(writer, table.slice(0, table.num_rows // 2))
        raise Killed

    with monkeypatch.context() as plant:
        plant.setattr(pq.ParquetWriter, "write_table", dying)
        with pytest.raises(Killed):
            label_data(*arguments, part_rows=_PART_ROWS)
    label_data(*arguments, part_rows=_PART_ROWS)
    return [row["id"] for row in rows_of(tmp_path / "out")]


def test_a_kill_while_a_part_is_written_loses_no_row(tmp_path, shelf, monkeypatch):
    assert ids_after_a_kill_in_a_part(tmp_path, shelf, monkeypatch) == [*range(40), 100, 101]


def test_control_a_part_that_is_written_in_place_loses_rows(tmp_path, shelf, monkeypatch):
    monkeypatch.setattr(service.labelling.bulk, "atomic_file", written_in_place)
    assert ids_after_a_kill_in_a_part(tmp_path, shelf, monkeypatch) != [*range(40), 100, 101]


class Bulk:
    """`mora-serve bulk` as a process, whose every process on this machine carries a mark."""

    def __init__(self, source: Path, output: Path, store: Path, *more: str) -> None:
        command = [sys.executable, "-m", "service.cli", "bulk", str(source), str(output), "--store", str(store)]
        self._mark = f"BULK_MARK={uuid.uuid4().hex}"
        name, value = self._mark.split("=")
        environment = {**os.environ, name: value}
        self._log = output.with_suffix(".log").open("w+")
        self.process = subprocess.Popen(
            [*command, *more], cwd=_ROOT, stderr=self._log, stdout=self._log, env=environment
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        eventually(lambda: not self.processes, seconds=180)  # Ray's own notice in their time

    @property
    def processes(self) -> list[int]:
        """Of Ray and the workers as well."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def __enter__(self) -> Bulk:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [self.process.pid, *self.processes]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def finish(self) -> tuple[int, str]:
        """Its exit status, and what it said."""
        status = self.process.wait(300)
        self._log.seek(0)
        return status, self._log.read()


def parts_in(output: Path) -> int:
    return len(list(output.glob("part-*")))


@needs_ray
@pytest.mark.full_only
def test_a_killed_job_on_ray_resumes_and_writes_every_row_once(tmp_path, shelf, server, counts, reliability):
    shelf.publish("fruit")
    rows = write_data_set(tmp_path / "in", PIXELS, rows=240)
    arguments = tmp_path / "in", tmp_path / "out", shelf.store.root, "--part-rows", "5", "--keep", "id"
    kills, begun, seed = counts(1, 20), 0, secrets.randbits(32)
    chance = random.Random(seed)  # noqa: S311 - a place to die is no secret
    for kill in range(kills):
        with Bulk(*arguments) as job:
            if kill % 2 == 0:  # amid the work; else wherever that is, Ray's start perhaps
                before = parts_in(tmp_path / "out")
                wait_until(
                    lambda job=job, before=before: parts_in(tmp_path / "out") > before or job.process.poll() == 0, 180
                )
            time.sleep(chance.uniform(0, 0.5 if kill % 2 == 0 else 6))
            job.kill()
        begun = max(begun, parts_in(tmp_path / "out"))
    assert begun > 0

    for _ in range(3):
        with Bulk(*arguments, "--workers", "2") as job:
            status, output = job.finish()
        if "Ray did not start" not in output:  # it gives up after 30 seconds on a busy machine
            break
    assert status == 0, output

    assert "242 rows in" in output
    running = server(shelf.store)
    wrong = [
        row["id"] for row, found in zip_longest(rows, rows_of(tmp_path / "out")) if not is_answer(running, row, found)
    ]
    measured = f"{kills} SIGKILLs of the driver (seed {seed}), {len(rows)} rows; {len(wrong)} wrong"
    reliability("bulk on Ray: rows lost, doubled or answered otherwise than by /classify", "0", measured, not wrong)


def is_answer(running, row: dict | None, found: dict | None) -> bool:
    """Whether a row of the output is what `POST /classify` says of the row asked for."""
    if row is None or found is None or row["id"] != found["id"]:
        return False
    if "error" in row:
        return found["error"] == row["error"]
    image = None if row["image"] is None else base64.b64encode(row["image"]).decode()
    (answer,) = ask(running.base, [as_json("/classify", {"image": image, "text": row["text"]})])
    if answer.status != 200:
        return found["error"] == answer.code
    labels = [label["label"] for label in answer.json["labels"]]
    scores = [label["score"] for label in answer.json["labels"]]
    return (
        found["error"] is None
        and found["top_labels"] == labels
        and found["top_scores"] == pytest.approx(scores, abs=1e-6)
    )
