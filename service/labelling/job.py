"""A bulk job: what is labelled with what, so that a run that was killed goes on with exactly that."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from model_store import Precision
from model_store.atomic_file import atomic_file
from service.labelling.rows import DataSetError, Limits

JOB_FILE = "_job.json"  # readers of parquet folders pass over names that begin with _ or .


class Part(NamedTuple):
    """Consecutive rows of one row group, which become one file of the output or none."""

    number: int
    file: str
    group: int
    start: int  # its first row within the group
    rows: int


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(_Frozen):
    """A parquet file of the input, by its content."""

    name: str  # relative to the input's folder
    size: int  # bytes
    sha256: str
    group_rows: tuple[int, ...]  # of each row group


class Job(_Frozen):
    """Everything that decides what the output holds."""

    format: Literal[2] = 2  # 2: the output has `detail`
    files: tuple[InputFile, ...]
    image_column: str | None
    text_column: str | None
    keep: tuple[str, ...]  # columns of the input that the output has too
    task: str
    version: PositiveInt
    manifest_sha256: str  # of the version, whose manifest names everything else in it by digest
    precision: Precision
    limits: Limits
    top_k: PositiveInt
    part_rows: PositiveInt

    def parts(self) -> list[Part]:
        """The work in its order: files by name, row groups, and within a group `part_rows` at a time."""
        places = [
            (file.name, group, start, min(self.part_rows, rows - start))
            for file in self.files
            for group, rows in enumerate(file.group_rows)
            for start in range(0, rows, self.part_rows)
        ]
        return [Part(number, *place) for number, place in enumerate(places)]

    def differences(self, other: Job) -> list[str]:
        """What is not the same in another job, each in a few words."""
        names = [name for name in Job.model_fields if getattr(self, name) != getattr(other, name)]
        found = [
            f"{name} was {getattr(self, name)}, now {getattr(other, name)}"
            for name in names
            if name not in ("files", "manifest_sha256")
        ]
        if not found and "manifest_sha256" in names:
            found.append(f"{self.task} version {self.version} was another then")
        mine, others = ({file.name: file for file in job.files} for job in (self, other))
        found += [f"the input's {name} is gone" for name in sorted(mine.keys() - others.keys())]
        found += [f"the input's {name} is new" for name in sorted(others.keys() - mine.keys())]
        both = sorted(mine.keys() & others.keys())
        return found + [f"the input's {name} has changed" for name in both if mine[name] != others[name]]


def part_name(number: int, count: int) -> str:
    """The file of a part; names in order are the input's rows in order, and a gap shows."""
    return f"part-{number:05d}-of-{count:05d}.parquet"


def parquet_files(source: Path) -> tuple[Path, list[str]]:
    """The folder that names are relative to, and the input's files by name, sorted. Raises DataSetError."""
    if source.is_file():
        return source.parent, [source.name]
    names = [path.relative_to(source) for path in source.rglob("*.parquet") if path.is_file()]
    shown = sorted(str(name) for name in names if not any(part.startswith((".", "_")) for part in name.parts))
    if not shown:
        raise DataSetError(f"{source} is neither a parquet file nor a folder with *.parquet in it")
    return source, shown


def read_input_file(folder: Path, name: str) -> InputFile:
    """A file's digest and row groups; reads all of it. Raises DataSetError where it is no parquet file."""
    path = folder / name
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with pyarrow.parquet.ParquetFile(path) as file:
            metadata = file.metadata
            rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    except (OSError, pyarrow.ArrowException) as error:
        raise DataSetError(f"{path} cannot be read as parquet: {error}; write it again, or take it out") from error
    return InputFile(name=name, size=path.stat().st_size, sha256=sha256, group_rows=rows)


def read_job(output: Path) -> Job | None:
    """The job that the output was begun with, None before one was. Raises DataSetError."""
    path = output / JOB_FILE
    try:
        return Job.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataSetError(f"{path} is not the record of a job; choose another OUTPUT") from error


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """The output is this process's, for as long as it lives. Raises DataSetError where it is another's."""
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataSetError(
                f"another process is writing to {output}; wait for it, or choose another OUTPUT"
            ) from error
        yield


def resume(job: Job, output: Path) -> list[Part]:
    """The parts that are not there yet, after what a killed run left unfinished is removed.

    Raises:
        DataSetError: the output belongs to another job, or to none.
    """
    begun = read_job(output)
    if begun is None:
        if strange := sorted(path.name for path in output.iterdir() if not path.name.startswith(".")):
            raise DataSetError(f"{output} has {strange[0]} and no {JOB_FILE}; choose an empty or a new OUTPUT")
        with atomic_file(output / JOB_FILE) as file:
            file.write(job.model_dump_json(indent=1).encode())
    elif differences := begun.differences(job):
        problem = "; ".join(differences[:5])
        raise DataSetError(f"{output} was begun otherwise: {problem}. Give what it was begun with, or another OUTPUT")
    for path in output.glob(".*.unfinished"):
        path.unlink(missing_ok=True)
    parts = job.parts()
    there = {path.name for path in output.iterdir()}
    return [part for part in parts if part_name(part.number, len(parts)) not in there]
