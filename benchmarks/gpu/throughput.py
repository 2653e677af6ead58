"""Ours in fp32 and fp16, PyTorch in fp16 behind LitServe, and the bare runtime, on the mix of requests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import typer
from rich.console import Console

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.limit import Bare, per_second
from benchmarks.load import Load, MeasurementError, closed_loop
from benchmarks.meter import Meter
from benchmarks.mix import Mix, read_mix
from benchmarks.servers import Program, Server, ours, scores, serving, torch_litserve
from model_store import Precision, Store
from service.api.item import Item
from service.inference.forward import stack
from service.models.execution import Execution, Runtime
from service.models.loading import Loader
from service.models.preparation import Prepared, Tokens
from service.settings import Settings

_CONCURRENCIES = (1, 16, 64)
_SECONDS = {1: 2.0, 16: 3.0, 64: 3.0}  # of the load with so many at once
_GOAL = 1.5  # ours fp16 over PyTorch fp16 behind LitServe, 64 at once
_COMPARED = 12
_MAX_SCORE_DIFFERENCE = 0.02
_PRECISIONS = (Precision.FP16, Precision.FP32)


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Print a table of items a second and latencies, and the ratio to the rival."""
    console, mix, share = Console(stderr=True, soft_wrap=True), read_mix(), 0.2 if dry_run else 1.0
    cores = len(os.sched_getaffinity(0))
    bodies = [item.body for item in mix.items]
    programs = [ours(folder / "store", precision, "auto", "--drain-delay-seconds", "0") for precision in _PRECISIONS]
    programs += [
        torch_litserve(folder, "float32" if dry_run else "float16", count) for count in _workers(cores, dry_run)
    ]
    loads: dict[str, dict[int, Load]] = {}
    reference, faults = None, []
    print("| server | at once | items a second | median ms | p99 ms |\n|---|---|---|---|---|")
    for program in programs:
        try:
            with serving(program) as server:
                answers = scores(server.url, bodies[:_COMPARED])
                reference = reference or answers
                loads[program.name] = _measure(Meter(console), program, server, bodies, share)
        except MeasurementError as error:
            faults.append(f"{program.name}: {error}")
            continue
        pairs = zip(reference, answers, strict=True)
        difference = max(
            abs(first[label] - answer[label]) for first, answer in pairs for label in first.keys() & answer
        )
        if difference > _MAX_SCORE_DIFFERENCE:
            faults.append(f"{program.name}: a score differs from the first server's by {difference:.3f}")
        for at_once, load in loads[program.name].items():
            latencies = f"{load.percentile(0.5):.1f} | {load.percentile(0.99):.1f}"
            print(f"| {program.name} | {at_once} | {load.per_second:.0f} | {latencies} |", flush=True)
    for precision in _PRECISIONS:
        for batch, rate in _bare(folder, precision, mix, 2 * share):
            print(f"| bare runtime {precision}, prepared inputs | batches of {batch} | {rate:.0f} | | |", flush=True)
    rivals = [each[_CONCURRENCIES[-1]].per_second for name, each in loads.items() if name.startswith("PyTorch")]
    if rivals and programs[0].name in loads:
        ratio = loads[programs[0].name][_CONCURRENCIES[-1]].per_second / max(rivals)
        verdict = "reached" if ratio >= _GOAL else "not reached"
        print(f"\nOurs fp16 over the best set-up of the rival, {_CONCURRENCIES[-1]} at once: {ratio:.2f}", end=" ")
        print(f"(goal {_GOAL}: {verdict}).")
    if faults:
        sys.exit("\n".join(faults))


def _measure(meter: Meter, program: Program, server: Server, bodies: Sequence[bytes], share: float) -> dict[int, Load]:
    """The load at each number of requests at once, for a share of the usual time."""
    most = _CONCURRENCIES[-1]
    closed_loop(server.url, bodies, most, share * _SECONDS[most])  # warm-up: every batch size
    return {
        at_once: meter.closed(
            f"{program.name}, {at_once} at once", server.url, bodies, at_once, share * _SECONDS[at_once]
        )
        for at_once in _CONCURRENCIES
    }


def _workers(cores: int, dry_run: bool) -> list[int]:
    """Set-ups of the rival. On an H100 with 16 cores, 8 workers were slower than 4 at every load."""
    return [1] if dry_run else sorted({1, min(4, cores)})


def _bare(folder: Path, precision: Precision, mix: Mix, seconds: float) -> Iterator[tuple[int, float]]:
    """Batch sizes, and items a second of the graphs alone with prepared inputs of the mix in such batches."""
    store = Store(folder / "store")
    settings = Settings.model_validate({"store": store.root, "precision": precision.value})
    model = Loader(store, settings).load("task-1", 2)
    prepared = [model.prepare(Item(item.image, item.text)) for item in mix.items]
    bare = Bare(store, "task-1", 2, Execution(Runtime.ONNXRUNTIME, precision), len(os.sched_getaffinity(0)))
    for batch in _CONCURRENCIES:
        parts = [prepared[start : start + batch] for start in range(0, len(prepared) - batch + 1, batch)]
        jobs = [partial(_run_batch, bare, part) for part in parts]
        per_second(jobs, 1, seconds / 2)  # warm-up
        yield batch, batch * per_second(jobs, 1, seconds)


def _run_batch(bare: Bare, items: list[Prepared]) -> None:
    pixels = [item.pixel_values for item in items if item.pixel_values is not None]
    tokens = [item.tokens for item in items if item.tokens is not None]
    if pixels:
        bare.run(Prepared(stack(pixels), None))
    if tokens:
        last = np.concatenate([each.last_token for each in tokens])
        ids = stack([each.input_ids for each in tokens]).astype(np.int64)
        bare.run(Prepared(None, Tokens(ids, last, False)))


if __name__ == "__main__":
    typer.run(main)
