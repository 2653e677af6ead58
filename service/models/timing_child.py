"""A process that times graphs, apart from the service: a runtime may end its process on a processor it does not know.

It reads jobs from standard input and writes a line of JSON for each: the seconds of a run, or the problem.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from model_store import Blob, Precision, Store
from service.models.execution import Execution, Runtime
from service.models.graphs import IMAGE_TRUNK, TEXT_TRUNK, Graph

_LEAST_RUNS, _MOST_RUNS = 3, 20


def seconds_of_a_run(graph: Graph, array: np.ndarray, most_seconds: float) -> float:
    """The median over as many runs as fit into the time: at least three, at most twenty."""
    graph.run(array)
    seconds: list[float] = []
    while len(seconds) < _LEAST_RUNS or (len(seconds) < _MOST_RUNS and sum(seconds) < most_seconds):
        start = time.perf_counter()
        graph.run(array)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def answer(store: Store, job: dict[str, Any], threads: int) -> dict[str, Any]:
    """The line for a job."""
    execution = Execution(Runtime(job["runtime"]), Precision(job["precision"]))
    contract = IMAGE_TRUNK if job["modality"] == "image" else TEXT_TRUNK
    blob = Blob.model_validate(job["blob"])
    array = np.zeros(job["shape"], np.float32 if job["modality"] == "image" else np.int64)
    try:
        graph = Graph(store.read(blob), blob.sha256, contract, threads, execution)
        return {"seconds": seconds_of_a_run(graph, array, job["most_seconds"])}
    except Exception as error:  # of any kind: the other jobs are run
        return {"problem": str(error)}


def main() -> None:
    """Run the jobs."""
    request = json.load(sys.stdin)
    store = Store(Path(request["store"]))
    for job in request["jobs"]:
        print(json.dumps(answer(store, job, request["threads"])), flush=True)


if __name__ == "__main__":
    main()
