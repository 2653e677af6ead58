"""A bulk job: its rows, version and options, and the parts that are done."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from model_store import Precision
from model_store.atomic_file import atomic_file
from service.api.requests import Coverage
from service.labelling.rows import DataSetError, Limits
from service.models.execution import Runtime

JOB_FILE = "_job.json"  # readers of parquet folders skip names that begin with _ or .


class Part(NamedTuple):
    """Consecutive rows of one row group, which become one file of the output."""

    name: str  # of its file in the output
    file: str  # of the input
    group: int
    start: int  # in the group, of the first row
    rows: int


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(_Frozen):
    """A parquet file of the input, identified by its content."""

    name: str  # relative to the input's folder
    size: int  # bytes
    sha256: str
    group_rows: tuple[int, ...]  # of each row group


class Job(_Frozen):
    """Everything that decides the content of the output."""

    format: Literal[2] = 2  # 2: the output has `detail`
    files: tuple[InputFile, ...]
    image_column: str | None
    text_column: str | None
    keep: tuple[str, ...]  # columns of the input that the output keeps
    task: str
    version: PositiveInt
    manifest_sha256: str  # of the version; the manifest holds the digests of its files
    precision: Precision
    runtime: Runtime = Runtime.ONNXRUNTIME
    limits: Limits
    top_k: PositiveInt
    coverage: Coverage = None
    part_rows: PositiveInt

    def parts(self) -> list[Part]:
        """The parts in the order of the rows and of their names. A row group has parts of at most `part_rows` rows."""
        ranges = [
            (file.name, group, start, min(self.part_rows, rows - start))
            for file in self.files
            for group, rows in enumerate(file.group_rows)
            for start in range(0, rows, self.part_rows)
        ]
        count = len(ranges)
        return [Part(f"part-{number:05}-of-{count:05}.parquet", *rows) for number, rows in enumerate(ranges)]

    def differences(self, other: Job) -> list[str]:
        """The differences of another job, each in a few words."""
        names = [name for name in Job.model_fields if getattr(self, name) != getattr(other, name)]
        options = [name for name in names if name not in ("files", "manifest_sha256")]
        differences = [f"{name} was {getattr(self, name)}, now {getattr(other, name)}" for name in options]
        if not differences and "manifest_sha256" in names:
            differences.append(f"{self.task} version {self.version} had another manifest")
        before, now = ({file.name: file for file in job.files} for job in (self, other))
        differences += [f"the input's {name} is gone" for name in sorted(before.keys() - now.keys())]
        differences += [f"the input's {name} is new" for name in sorted(now.keys() - before.keys())]
        both = sorted(before.keys() & now.keys())
        return differences + [f"the input's {name} has changed" for name in both if before[name] != now[name]]


def read_job(output: Path) -> Job | None:
    """The job of an output, or None if no job has begun in it. Raises DataSetError."""
    path = output / JOB_FILE
    try:
        return Job.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DataSetError(f"{path} is not the record of a job; choose another OUTPUT") from error


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Lock the output for this process. Raises DataSetError if another process has locked it."""
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem = f"another process is writing to {output}"
            raise DataSetError(f"{problem}; wait for it, or choose another OUTPUT") from error
        yield


def resume(job: Job, output: Path) -> list[Part]:
    """The parts that are not done yet; removes the unfinished files of a killed run.

    Raises:
        DataSetError: the output belongs to another job, or contains other files.
    """
    earlier = read_job(output)
    if earlier is None:
        if others := sorted(path.name for path in output.iterdir() if not path.name.startswith(".")):
            raise DataSetError(f"{output} has {others[0]} and no {JOB_FILE}; choose an empty or a new OUTPUT")
        with atomic_file(output / JOB_FILE) as file:
            file.write(job.model_dump_json(indent=1).encode())
    elif differences := earlier.differences(job):
        problem = "; ".join(differences[:5])
        raise DataSetError(f"{output} belongs to another job: {problem}; repeat its command, or choose another OUTPUT")
    for path in output.glob(".*.unfinished"):
        path.unlink(missing_ok=True)
    done = {path.name for path in output.iterdir()}
    return [part for part in job.parts() if part.name not in done]
