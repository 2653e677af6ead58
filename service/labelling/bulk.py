"""`mora-serve bulk`: a parquet data set labelled on Ray Data, in parts that are whole or not there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.console import Console

from model_store import StoreError
from service.labelling.job import Job, Part, locked, parquet_files, part_name, resume
from service.labelling.parts import Labelled, PartLabeller
from service.labelling.planning import BulkOptions, check_places, plan
from service.labelling.progress import RowProgress
from service.labelling.rows import DataSetError
from service.models.refusal import RefusedError
from service.settings import Settings, usable_cores

_OBJECT_STORE_BYTES = 100_000_000  # numbers of parts pass through it, never rows


def run(options: BulkOptions, settings: Settings, console: Console) -> Counter[str]:
    """Label what is not labelled yet.

    Returns:
        Rows by their error in the whole output, "" for those that have an answer.

    Raises:
        DataSetError, StoreError, RefusedError: the job cannot resume, or not go on.
    """
    check_places(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with locked(options.output):
        with console.status("reading the input"):
            job, schema = plan(options, settings)
        todo, total = resume(job, options.output), len(job.parts())
        if len(todo) < total:
            console.print(f"{total - len(todo)} of {total} parts are there; going on with the others")
        if todo:
            folder, _ = parquet_files(options.source.absolute())
            arguments = job, folder, options.output.absolute(), schema
            follow(labelled(todo, arguments, settings, options), todo, console)
        return count_errors(options.output, total)


class _RayWorker:
    """PartLabeller in the form that Ray Data calls: a batch of one row, which is a part's number.

    What a person can mend comes back as `problem`, since Ray would wrap it in its own traces.
    """

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - PartLabeller's
        self._arguments = arguments
        self._labeller: PartLabeller | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (number,) = batch["item"]
        try:
            if self._labeller is None:
                self._labeller = PartLabeller(*self._arguments)
            done, problem = self._labeller.label(int(number)), ""
        except (DataSetError, StoreError, RefusedError, OSError, pa.ArrowException) as error:
            done, problem = Labelled(int(number), 0, 0), str(error) or type(error).__name__
        return {**{name: [value] for name, value in done._asdict().items()}, "problem": [problem]}


def start_ray(address: str) -> None:
    """A Ray of our own on this machine, or the cluster at an address. Raises DataSetError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails arrives as an exception
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        own = {"num_cpus": usable_cores(), "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
        options.update(own)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises Exception itself where a busy machine takes too long to start it
        raise DataSetError(
            f"Ray did not start, and nothing is lost: {error}; check --address, and give the same command again"
        ) from error


def labelled(
    todo: Sequence[Part], arguments: tuple[Job, Path, Path, pa.Schema], settings: Settings, options: BulkOptions
) -> Iterator[Labelled]:
    """Label the parts on Ray, in whatever order they get done. Raises DataSetError where a worker cannot go on."""
    start_ray(options.address)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        share = share_of_cluster(options.workers)
        alike = {"intra_op_threads": share["num_cpus"], "preparation_workers": share["num_cpus"]}
        fixed = {"precision": arguments[0].precision.value, "store": settings.store.absolute()}
        parts = ray.data.from_items([part.number for part in todo], override_num_blocks=len(todo))
        results = parts.map_batches(
            _RayWorker,
            fn_constructor_args=(*arguments, settings.model_copy(update={**alike, **fixed})),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=options.workers),
            **share,
        )
        for row in results.iter_rows():
            if problem := row.pop("problem"):
                raise DataSetError(f"{problem}; parts that are done stay")
            yield Labelled(**row)
    except ray.exceptions.RayError as error:
        raise DataSetError(
            f"a worker failed: {str(error).strip().splitlines()[-1]}; the same command goes on from here"
        ) from error
    finally:
        ray.shutdown()


def share_of_cluster(workers: int) -> dict[str, float]:
    """What of the cluster each worker takes. Raises DataSetError where there are more workers than cores."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    if workers > cores:
        raise DataSetError(f"--workers {workers} is more than the {cores:.0f} cores there are; give at most so many")
    largest = max(node.get("CPU", 0) for node in nodes)
    return {"num_cpus": int(min(cores // workers, largest)), "num_gpus": min(1, gpus / workers)}


def follow(results: Iterator[Labelled], todo: Sequence[Part], console: Console) -> None:
    """Show how far it is, how fast, and how long it will take."""
    with RowProgress(sum(part.rows for part in todo), console) as progress:
        for done in results:
            progress.advance(done.rows, done.failed)


def count_errors(output: Path, parts: int) -> Counter[str]:
    """Rows by error in the whole output, "" for those that have an answer."""
    counts: Counter[str] = Counter()
    for number in range(parts):
        column = pq.read_table(output / part_name(number, parts), columns=["error"], partitioning=None)["error"]
        counts.update(error or "" for error in column.to_pylist())
    return counts
