"""The limit: the exported graphs on their bare runtime in a loop, without HTTP, queues or checks.

    python -m benchmarks.limit STORE PRECISION [--runtime RUNTIME]

Runs one item after another, and only the towers of its modalities. Three useful thread set-ups are tried, and the best
counts: one run on all cores; one run for each core, on that core; and one run for each core, on all cores. Threads wait
without spinning, which is faster here in every set-up. If two runtimes run the precision, both are tried. Prints its
figures as JSON.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray

from benchmarks.load import percentile
from benchmarks.mix import Item, read_mix
from model_store import Pattern, Store
from model_store.openvino import openvino_session
from model_store.session_options import session_options
from service.api.item import Item as ServedItem
from service.models.execution import Execution, Runtime
from service.models.graphs import providers
from service.models.loaded_model import Model
from service.models.loading import Loader, executions_here
from service.models.preparation import Prepared
from service.models.tail import Weights
from service.settings import Settings


class Bare:
    """The four graphs of a version, each in its own session."""

    def __init__(self, store: Store, task: str, version: int, execution: Execution, threads: int) -> None:
        graphs = store.manifest(task, version).graphs[execution.precision]

        def opened(name: str) -> onnxruntime.InferenceSession:
            graph, options = store.read(getattr(graphs, name)), session_options()
            options.intra_op_num_threads = threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            if execution.runtime is Runtime.OPENVINO:
                return openvino_session(graph, options, execution.precision, threads)
            return onnxruntime.InferenceSession(graph, options, providers=providers())

        self._sessions = {name: opened(name) for name in ("image_trunk", "image_tail", "text_trunk", "text_tail")}
        self._weights = {
            f"{tower}_tail": Weights(store.read(blob), execution)
            for tower, blob in (("image", graphs.image_weights), ("text", graphs.text_weights))
            if blob is not None
        }

    def run(self, prepared: Prepared) -> None:
        """The features of one item."""
        if prepared.pixel_values is not None:
            self._run("image_tail", image_hidden=self._run("image_trunk", pixel_values=prepared.pixel_values))
        if (tokens := prepared.tokens) is not None:
            hidden = self._run("text_trunk", input_ids=tokens.input_ids)
            self._run("text_tail", text_hidden=hidden, last_token=tokens.last_token)

    def _run(self, graph: str, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        session, weights = self._sessions[graph], self._weights.get(graph)
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        if weights is not None:
            values |= {port.name: value for port, value in zip(weights.ports, weights.values, strict=True)}
        return session.run_with_ort_values(None, values)[0].numpy()  # type: ignore[no-any-return]


def per_second(jobs: Sequence[Callable[[], None]], workers: int, seconds: float) -> float:
    """The rate at which so many threads finish the jobs, in jobs a second."""
    todo, taking, start = cycle(jobs), threading.Lock(), time.perf_counter()
    done: list[float] = []

    def work() -> None:
        while not done or time.perf_counter() < start + seconds:
            with taking:
                job = next(todo)
            job()
            done.append(time.perf_counter())

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(done) / (max(done) - start)


def median_ms(job: Callable[[], None], seconds: float) -> float:
    """Median time of one job after the other."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or not times:
        start = time.perf_counter()
        job()
        times.append(1000 * (time.perf_counter() - start))
    return percentile(times, 0.5)


def cpu_ms(jobs: Sequence[Callable[[], object]]) -> float:
    """Median processor time of a job, each run three times."""
    times = []
    for job in 3 * [*jobs]:
        start = time.process_time()
        job()
        times.append(1000 * (time.process_time() - start))
    return percentile(times, 0.5)


def measure(store: Path, precision: str, runtime: str, seconds: float) -> dict[str, Any]:
    """Throughput of the mix with inputs prepared beforehand, the same with decoding and tokenising, and one text."""
    cores = len(os.sched_getaffinity(0))
    opened = Store(store)
    (task,) = opened.tasks()
    settings = Settings.model_validate({"store": store, "precision": precision, "runtime": runtime})
    model = Loader(opened, settings, measures=False).load(task, 1)
    ways = executions_here(model.manifest, settings)
    mix = read_mix()
    inputs = [_prepared(model, item) for item in mix.items]
    text, image = _prepared(model, mix.text), _prepared(model, mix.of(Pattern.IMAGE)[0])
    setups, best = {}, 0.0
    for way, (threads, workers) in product(ways, sorted({(cores, 1), (1, cores), (cores, cores)})):
        bare = Bare(opened, task, 1, way, threads)
        jobs = [partial(bare.run, item) for item in inputs]
        per_second(jobs, workers, seconds / 5)  # warm-up
        found = {
            "per_second": per_second(jobs, workers, seconds),
            "text_ms": median_ms(partial(bare.run, text), seconds / 5),
            "image_ms": median_ms(partial(bare.run, image), seconds / 5),
        }
        setups[f"{way.runtime}, {workers} x {threads} threads"] = found
        if found["per_second"] > best:
            best, best_workers = found["per_second"], workers
            whole = [partial(_prepare_and_run, bare, model, item) for item in mix.items]
    return {
        "per_second": best,
        "with_preparation_per_second": per_second(whole, best_workers, seconds),
        "text_ms": min(found["text_ms"] for found in setups.values()),
        "image_ms": min(found["image_ms"] for found in setups.values()),
        "decode_cpu_ms": cpu_ms([partial(_prepared, model, item) for item in mix.of(Pattern.IMAGE)]),
        "setups": setups,
    }


def _prepared(model: Model, item: Item) -> Prepared:
    return model.prepare(ServedItem(item.image, item.text))


def _prepare_and_run(bare: Bare, model: Model, item: Item) -> None:
    bare.run(_prepared(model, item))


def main(
    store: Annotated[Path, typer.Argument(help="A store with one task.")],
    precision: Annotated[str, typer.Argument(help="A precision in its manifest.")],
    runtime: Annotated[
        str, typer.Option(help="onnxruntime or openvino; auto: both, and the faster one counts.")
    ] = "auto",
    seconds: Annotated[float, typer.Option(help="Duration of each measurement, in seconds.")] = 15.0,
) -> None:
    """Measure one precision."""
    print(json.dumps(measure(store, precision, runtime, seconds)))


if __name__ == "__main__":
    typer.run(main)
