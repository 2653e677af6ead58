"""From the options of `mora-serve bulk` to a plan, with every check that is possible before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from model_store import Store, blob_of
from service.labelling.answerers import open_store
from service.labelling.data_set import check_types, common_schema, parquet_files, read_input_file
from service.labelling.job import Job, read_job
from service.labelling.rows import DataSetError, Limits, choose_columns, choose_task
from service.models.graphs import has_cuda
from service.models.loading import choose_precision
from service.settings import Settings


@dataclass(frozen=True)
class BulkOptions:
    """The options of the command line; None stands for the default."""

    source: Path
    output: Path
    task: str | None = None
    version: int | None = None
    image_column: str | None = None
    text_column: str | None = None
    keep: tuple[str, ...] | None = None
    top_k: int = 5
    part_rows: int = 1000


@dataclass(frozen=True)
class Plan:
    """A job and what a process needs to label its parts. Paths are absolute."""

    job: Job
    folder: Path  # of the input
    output: Path
    schema: pa.Schema  # of the columns to read
    settings: Settings


def check_paths(options: BulkOptions) -> None:
    """Refuse an output that would become part of the input. Raises DataSetError."""
    source, output = options.source.resolve(), options.output.resolve()
    if not source.exists():
        raise DataSetError(f"{options.source} does not exist; correct INPUT")
    if output.exists() and not output.is_dir():
        raise DataSetError(f"{options.output} is a file; OUTPUT is a folder")
    if source.is_dir() and output.is_relative_to(source):
        raise DataSetError("OUTPUT is inside INPUT, so the next run would label it; choose a folder outside")


def make_plan(options: BulkOptions, settings: Settings) -> Plan:
    """The plan for the options; reads the whole input. Raises DataSetError or StoreError."""
    folder, names = parquet_files(options.source)
    files = tuple(read_input_file(folder, name) for name in names)
    if not any(any(file.group_rows) for file in files):
        raise DataSetError(f"{options.source} has no rows; name another INPUT")
    schema = common_schema(folder, names)
    columns = choose_columns(schema.names, options.image_column, options.text_column, options.keep)
    check_types(schema, columns)
    store = open_store(settings)
    task, version = _choose_version(options, store)
    precision = choose_precision(store.manifest(task, version).graphs, settings.precision, has_cuda())
    job = Job(
        files=files,
        image_column=columns.image,
        text_column=columns.text,
        keep=columns.keep,
        task=task,
        version=version,
        manifest_sha256=manifest_digest(store, task, version),
        precision=precision,
        limits=Limits.of(settings),
        top_k=options.top_k,
        part_rows=options.part_rows,
    )
    schema = pa.schema([field for field in schema if field.name in columns.all()])
    settings = settings.model_copy(update={"precision": precision.value, "store": settings.store.absolute()})
    return Plan(job, folder.absolute(), options.output.absolute(), schema, settings)


def manifest_digest(store: Store, task: str, version: int) -> str:
    """SHA-256 of a version's manifest. Raises StoreError."""
    return blob_of(store.read_manifest(task, version)[1]).sha256


def _choose_version(options: BulkOptions, store: Store) -> tuple[str, int]:
    """The task and version of the options, else of the job that the output belongs to, else the live version."""
    earlier = read_job(options.output)
    task = choose_task(options.task or (earlier.task if earlier else None), store.tasks(), store.root)
    if options.version is not None:
        return task, options.version
    if earlier is not None and earlier.task == task:
        return task, earlier.version
    return task, store.manifest(task).version
