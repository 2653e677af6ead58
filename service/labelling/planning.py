"""From what the command line asks for to a bulk job, with everything checked that can be checked before the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model_store import Store
from service.labelling.job import Job, parquet_files, read_input_file, read_job
from service.labelling.labeller import open_store
from service.labelling.parts import digest_of
from service.labelling.rows import DataSetError, Limits, check_kept, choose_columns, choose_task
from service.models.graphs import has_cuda
from service.models.loading import choose_precision
from service.settings import Settings


@dataclass(frozen=True)
class BulkOptions:
    """What the command line asks for; None where it leaves the choice to us."""

    source: Path
    output: Path
    task: str | None = None
    version: int | None = None
    image_column: str | None = None
    text_column: str | None = None
    keep: tuple[str, ...] | None = None
    top_k: int = 5
    part_rows: int = 1000
    workers: int = 1
    address: str = "local"


def check_places(options: BulkOptions) -> None:
    """Refuse an output that would become part of the input. Raises DataSetError."""
    source, output = options.source.resolve(), options.output.resolve()
    if not source.exists():
        raise DataSetError(f"there is no {options.source}; mend INPUT")
    if output.exists() and not output.is_dir():
        raise DataSetError(f"{options.output} is a file; OUTPUT is a folder")
    if source.is_dir() and output.is_relative_to(source):
        raise DataSetError("OUTPUT lies within INPUT, and would be labelled the next time; choose a folder outside")


def plan(options: BulkOptions, settings: Settings) -> tuple[Job, pa.Schema]:
    """The job, and the schema of the columns that it reads; reads all of the input.

    Raises DataSetError or StoreError.
    """
    folder, names = parquet_files(options.source)
    files = tuple(read_input_file(folder, name) for name in names)
    if not sum(map(sum, (file.group_rows for file in files))):
        raise DataSetError(f"{options.source} has no rows; name another INPUT")
    schema = common_schema(folder, names)
    image, text = choose_columns(schema.names, options.image_column, options.text_column)
    check_types(schema, image, text)
    keep = tuple(schema.names) if options.keep is None else options.keep
    check_kept(schema.names, keep)
    store = open_store(settings)
    task, version = choose_version(options, store)
    precision = choose_precision(store.manifest(task, version).graphs, settings.precision, has_cuda())
    job = Job(
        files=files,
        image_column=image,
        text_column=text,
        keep=keep,
        task=task,
        version=version,
        manifest_sha256=digest_of(store, task, version),
        precision=precision,
        limits=Limits.of(settings),
        top_k=options.top_k,
        part_rows=options.part_rows,
    )
    read = [field for field in schema if field.name in {*keep, image, text}]
    return job, pa.schema(read)


def common_schema(folder: Path, names: Sequence[str]) -> pa.Schema:
    """Every column of any file. Raises DataSetError where files differ in a column's type."""
    schema = pa.schema([])
    for name in names:
        own = pq.read_schema(folder / name).remove_metadata()
        if repeated := [column for column, count in Counter(own.names).items() if count > 1]:
            raise DataSetError(f"{folder / name} has the column {repeated[0]} more than once; rename all but one")
        try:
            schema = pa.unify_schemas([schema, pa.schema([field.with_nullable(True) for field in own])])
        except pa.ArrowException as error:
            raise DataSetError(
                f"{folder / name} has another type in a column than the files before it: {error}; write it with theirs"
            ) from error
    return schema


def check_types(schema: pa.Schema, image: str | None, text: str | None) -> None:
    """Refuse columns that can hold no image, or no text. Raises DataSetError."""
    if image and not _may_hold(schema.field(image).type, (pa.types.is_string, pa.types.is_binary)):
        kinds = "bytes, a struct of bytes and path, or paths"
        raise DataSetError(f"the column {image} is {schema.field(image).type}; an image column holds {kinds}")
    if text and not _may_hold(schema.field(text).type, (pa.types.is_string,), structs=False):
        raise DataSetError(f"the column {text} is {schema.field(text).type}; a text column holds strings")


def _may_hold(kind: pa.DataType, scalars: tuple[Any, ...], structs: bool = True) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        own = {field.name for field in kind}
        return structs and bool(own & {"bytes", "path"})
    larger = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    kind = larger.get(kind, kind)
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in scalars)


def choose_version(options: BulkOptions, store: Store) -> tuple[str, int]:
    """The task and version asked for, else those that the output was begun with, else what is live."""
    begun = read_job(options.output)
    task = options.task or (begun.task if begun else None)
    task = choose_task(task, store.tasks(), store.root)
    if options.version is not None:
        return task, options.version
    if begun is not None and begun.task == task:
        return task, begun.version
    return task, store.manifest(task).version
