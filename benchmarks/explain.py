"""The cost of `explain: true`: the same items are sent with and without it, in alternation, on one connection.

python -m benchmarks.explain --output benchmarks/results/explain.md
python -m benchmarks.explain --store build/models/store --task task-1 --precision int8    # another model
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from benchmarks.load import MeasurementError
from benchmarks.mix import Item, read_mix
from benchmarks.servers import ours, serving
from model_store import DEFAULT_STORE, Pattern
from training.provenance import machine


def milliseconds(connection: http.client.HTTPConnection, body: bytes, explained: bool) -> float:
    """The time of one answer. Raises MeasurementError if the answer is not as requested."""
    started = time.perf_counter()
    connection.request("POST", "/classify", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    taken = 1000 * (time.perf_counter() - started)
    if response.status != 200 or ("explanation" in json.loads(answer)) != explained:
        raise MeasurementError(f"the service answered {response.status} {answer[:300]!r}")
    return taken


def measure(address: str, task: str, items: tuple[Item, ...], rounds: int) -> list[tuple[float, float]]:
    """Milliseconds without and with an explanation, in pairs of alternating order."""
    bodies = [
        [json.dumps({"task": task, **item.fields, **more}).encode() for more in ({}, {"explain": True})]
        for item in items
    ]
    connection = http.client.HTTPConnection(address, timeout=30)
    for pair in bodies:  # to warm up
        for explained, body in enumerate(pair):
            milliseconds(connection, body, bool(explained))
    pairs = []
    for number in range(rounds):
        for pair in bodies:
            order = (0, 1) if number % 2 else (1, 0)
            taken = {explained: milliseconds(connection, pair[explained], bool(explained)) for explained in order}
            pairs.append((taken[0], taken[1]))
    connection.close()
    return pairs


def row(pattern: Pattern, pairs: list[tuple[float, float]]) -> str:
    """One line of the table."""
    plain = statistics.median(without for without, _ in pairs)
    more = statistics.median(explained - without for without, explained in pairs)
    return f"| {pattern} | {len(pairs)} | {plain:.2f} | {1000 * more:.0f} | {more / plain:.1%} |"


def bench(
    store: Annotated[Path, typer.Option(help="Store to serve.")] = DEFAULT_STORE,
    task: Annotated[str, typer.Option(help="Task that answers.")] = "clipart-category",
    precision: Annotated[str, typer.Option(help="As MORA_PRECISION.")] = "auto",
    rounds: Annotated[int, typer.Option(min=2, help="Pairs of requests for each of the 120 items.")] = 50,
    output: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Measure how much time an explanation adds to an answer."""
    mix = read_mix()
    with serving(ours(store, precision)) as server:
        address = server.base.removeprefix("http://")
        found = {
            pattern: measure(address, task, mix.of(pattern), rounds)
            for pattern in track([*Pattern], "presence patterns")
        }
    lines = [
        "# Cost of an explanation",
        "",
        f"`python -m benchmarks.explain --task {task} --precision {precision} --rounds {rounds}`: each item of the "
        "benchmarks' mix is sent with and without `explain`, in alternation, one request at a time.",
        "",
        "| item has | pairs | ms without (median) | added us (median of pairs) | added |",
        "|---|---|---|---|---|",
        *(row(pattern, pairs) for pattern, pairs in found.items()),
        "",
        f"{machine()}.",
        "",
    ]
    Console().print("\n".join(lines), markup=False, soft_wrap=True)
    if output is not None:
        output.write_text("\n".join(lines))


if __name__ == "__main__":
    typer.run(bench)
