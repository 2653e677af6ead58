"""Parts of a bulk job labelled on Ray Data, which passes only names of parts; needs the extra `ray`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from model_store import StoreError
from service.cores import usable_cores
from service.labelling.bulk import LabelledPart, PartLabeller
from service.labelling.job import Part
from service.labelling.planning import Plan
from service.labelling.rows import DataSetError
from service.models.refusal import RefusedError

_OBJECT_STORE_BYTES = 100_000_000  # room for names of parts


def label_on_ray(plan: Plan, parts: Sequence[Part], workers: int, address: str) -> Iterator[LabelledPart]:
    """Label the parts on Ray; yields each part once it is done. Raises DataSetError if a worker fails.

    Args:
        address: of a cluster, or `local` to start Ray for this command.
    """
    _start_ray(address)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        share = _share_of_cluster(workers)
        threads = {"intra_op_threads": share["num_cpus"], "preparation_workers": share["num_cpus"]}
        plan = replace(plan, settings=plan.settings.model_copy(update=threads))
        names = ray.data.from_items([part.name for part in parts], override_num_blocks=len(parts))
        results = names.map_batches(
            RayWorker,
            fn_constructor_args=(plan,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            **share,
        )
        for row in results.iter_rows():
            if row["problem"]:
                raise DataSetError(f"{row['problem']}; parts that are done are kept")
            yield LabelledPart(row["rows"], row["failed"])
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataSetError(f"a worker failed: {reason}; run the same command to resume") from error
    finally:
        ray.shutdown()


class RayWorker:
    """A PartLabeller as a callable for Ray Data; the batch has one row, which holds the name of a part.

    An error that the user can correct is returned as `problem`, because Ray would add its stack traces to an exception.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts = {part.name: part for part in plan.job.parts()}
        self._labeller: PartLabeller | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """A column for each field of the LabelledPart, and `problem`."""
        try:
            self._labeller = self._labeller or PartLabeller(self._plan)
            done, problem = self._labeller.label(self._parts[batch["item"][0]]), ""
        except (DataSetError, StoreError, RefusedError, OSError, pa.ArrowException) as error:
            done, problem = LabelledPart(0, 0), str(error) or type(error).__name__
        return {"rows": [done.rows], "failed": [done.failed], "problem": [problem]}


def _start_ray(address: str) -> None:
    """Start Ray on this machine, or connect to the cluster at an address. Raises DataSetError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage reports to its developers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # failures arrive as exceptions
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": usable_cores(), "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises a bare Exception if its start times out on a busy machine
        raise DataSetError(f"Ray did not start: {error}; check --address, and run the same command again") from error


def _share_of_cluster(workers: int) -> dict[str, float]:
    """The cores and GPUs of each worker. Raises DataSetError if there are more workers than cores."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    if workers > cores:
        raise DataSetError(f"--workers {workers} exceeds the {cores:.0f} cores; give at most that many")
    largest = max(node.get("CPU", 0) for node in nodes)
    return {"num_cpus": int(min(cores // workers, largest)), "num_gpus": min(1, gpus / workers)}
