"""From the options of `mora-serve bulk` to a plan of the job; the whole input is checked first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from model_store import Store, blob_of
from model_store.items.folders import Skip, ignore, paths_in
from model_store.items.parquet_files import ParquetTable
from service.inference.label_sets import check_any_coverage, highest_coverages
from service.labelling.answerers import open_store
from service.labelling.job import InputFile, Job, read_job
from service.labelling.parquet import check_types
from service.labelling.rows import DataSetError, Limits, answer_columns, check_problem, choose_columns, choose_task
from service.models.loading import executions_here
from service.settings import Settings


@dataclass(frozen=True)
class BulkOptions:
    """The options of the command line; None is the default."""

    source: Path
    output: Path
    task: str | None = None
    version: int | None = None
    image_column: str | None = None
    text_column: str | None = None
    keep: tuple[str, ...] | None = None
    top_k: int = 5
    coverage: float | None = None
    part_rows: int = 1000


@dataclass(frozen=True)
class Plan:
    """A job, and the paths and settings to label its parts with. Paths are absolute."""

    job: Job
    folder: Path  # of the input
    output: Path
    schema: pa.Schema  # the columns to read
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


def make_plan(options: BulkOptions, settings: Settings, skip: Skip = ignore) -> Plan:
    """The plan of a job; reads the whole input.

    Raises DataSetError, TableError, StoreError, RefusedError, or ServiceError if no row can have the coverage.

    Args:
        skip: called for each file of the input that is not read.
    """
    folder, names = _parquet_files(options.source, skip)
    files = tuple(read_input_file(folder, name) for name in names)
    if not any(any(file.group_rows) for file in files):
        raise DataSetError(f"{options.source} has no rows; name another INPUT")
    schema = _common_schema(folder, names)
    earlier = read_job(options.output)
    coverage = earlier.coverage if options.coverage is None and earlier else options.coverage
    answers = answer_columns(coverage)
    columns = choose_columns(schema.names, options.image_column, options.text_column, options.keep, answers)
    check_types(schema, columns, lambda column: _is_empty(column, folder, names))
    store = open_store(settings)
    task, version = _choose_version(options, store, earlier)
    manifest = store.manifest(task, version)
    check_problem(task, manifest.problem, embeds=False)
    if coverage is not None:
        check_any_coverage(task, version, highest_coverages(manifest).values(), coverage)
    execution, *_ = executions_here(manifest, settings)
    job = Job(
        files=files,
        image_column=columns.image,
        text_column=columns.text,
        keep=columns.keep,
        task=task,
        version=version,
        manifest_sha256=manifest_digest(store, task, version),
        precision=execution.precision,
        runtime=execution.runtime,
        limits=Limits.of(settings),
        top_k=options.top_k,
        coverage=coverage,
        part_rows=options.part_rows,
    )
    schema = pa.schema([field for field in schema if field.name in columns.all()])
    chosen = {"precision": execution.precision.value, "runtime": execution.runtime.value}
    settings = settings.model_copy(update={**chosen, "store": settings.store_folder.absolute()})
    return Plan(job, folder.absolute(), options.output.absolute(), schema, settings)


def folder_columns(plan: Plan) -> list[str]:
    """The columns of folders such as `year=2026`, which are not read, beside those that are."""
    folders = {part for file in plan.job.files for part in Path(file.name).parent.parts if "=" in part}
    return sorted({folder.partition("=")[0] for folder in folders} - set(plan.schema.names))


def read_input_file(folder: Path, name: str) -> InputFile:
    """The digest and the row groups of a file, which is read as a whole. Raises DataSetError if it is not parquet."""
    path = folder / name
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            rows = tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    except (OSError, pa.ArrowException) as error:
        cure = "write it again, or remove it"
        if path.suffix != ".parquet":
            cure = "bulk reads parquet, and `mora-serve classify` also csv and jsonl"
        raise DataSetError(f"{path} cannot be read as parquet: {str(error).rstrip('.')}; {cure}") from error
    return InputFile(name=name, size=path.stat().st_size, sha256=sha256, group_rows=rows)


def manifest_digest(store: Store, task: str, version: int) -> str:
    """SHA-256 of a version's manifest. Raises StoreError."""
    return blob_of(store.read_manifest(task, version)[1]).sha256


def _choose_version(options: BulkOptions, store: Store, earlier: Job | None) -> tuple[str, int]:
    """The task and version of the options, else those of the job in the output, else the live version."""
    task = choose_task(options.task or (earlier.task if earlier else None), store.tasks(), store.root)
    if options.version is not None:
        return task, options.version
    if earlier is not None and earlier.task == task:
        return task, earlier.version
    return task, store.manifest(task).version


def _parquet_files(source: Path, skip: Skip) -> tuple[Path, list[str]]:
    """The folder of the input, and its parquet files in order, relative to the folder. Raises DataSetError."""
    if source.is_file():
        return source.parent, [source.name]
    names = sorted(map(str, paths_in(source, _suffix_fault, skip, is_hidden=_is_hidden)))
    if not names:
        raise DataSetError(f"{source} is neither a parquet file nor a folder with *.parquet in it")
    return source, names


def _suffix_fault(path: Path) -> str | None:
    return None if path.suffix.lower() == ".parquet" else "files without the suffix .parquet"


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))  # Spark writes files such as _SUCCESS


def _is_empty(column: str, folder: Path, names: Sequence[str]) -> bool:
    """Whether every cell of a column is missing in every file that has it. Raises TableError."""
    tables = [ParquetTable(folder / name) for name in names]
    return all(table.is_empty(column) for table in tables if column in table.names)


def _common_schema(folder: Path, names: Sequence[str]) -> pa.Schema:
    """The columns of all files. Raises DataSetError if files differ in the type of a column, or TableError."""
    schema = pa.schema([])
    for name in names:
        own = [field.with_nullable(True) for field in ParquetTable(folder / name).schema]
        try:
            schema = pa.unify_schemas([schema, pa.schema(own)])
        except pa.ArrowException as error:
            problem = f"{folder / name} has a column of another type than earlier files: {error}"
            raise DataSetError(f"{problem}; write it with their types") from error
    return schema
