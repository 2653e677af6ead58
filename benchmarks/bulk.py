"""Rows a second of `mora-serve bulk` with 1 and 2 workers, compared with one process that runs the same code.

    python -m benchmarks.bulk --output benchmarks/results/bulk.md
    python -m benchmarks.bulk --items 200                     # a quick check that it runs

Every way labels the same rows with the shipped task: the openclipart category test split, repeated. The rate excludes
the start: it counts the rows after the first finished part.
"""

from __future__ import annotations

import importlib.metadata
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image
from rich.console import Console

from model_store import DEFAULT_STORE
from service.labelling.bulk import LabelledPart, PartLabeller
from service.labelling.job import Part, resume
from service.labelling.planning import BulkOptions, Plan, make_plan
from service.labelling.ray_executor import label_on_ray
from service.settings import Settings
from training.provenance import machine

ROOT = Path(__file__).parents[1]
DRAWINGS = ROOT / "examples" / "openclipart" / "data" / "category" / "test.parquet"
TASK = "clipart-category"
PART_ROWS = 100
WAYS = {"one plain process": 0, "Ray Data, 1 worker": 1, "Ray Data, 2 workers": 2}


class Figures(NamedTuple):
    """One run."""

    rows_per_second: float
    seconds: float  # from the start to the last row


def made_rows(count: int) -> pa.Table:
    """Pictures of noise, each with a text; two of three rows lack the image or the text."""
    rows = []
    for row in range(count):
        file = BytesIO()
        small = np.random.default_rng(row).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((300, 300), Image.Resampling.BICUBIC).save(file, "PNG")
        rows.append({"image": None if row % 3 == 1 else file.getvalue(), "text": None if row % 3 == 2 else "a drawing"})
    return pa.Table.from_pylist(rows)


def write_input(path: Path, items: int, drawings: Path) -> str:
    """Write so many rows; returns a description of them."""
    there = drawings.exists()
    table = pq.read_table(drawings, columns=["image", "text"]) if there else made_rows(min(items, 500))
    repeated = pa.concat_tables([table] * -(-items // table.num_rows)).slice(0, items)
    pq.write_table(repeated, path, row_group_size=5 * PART_ROWS)
    return f"rows of {drawings.name}" if there else "rows of generated pictures, two thirds without image or text"


def label_here(plan: Plan, parts: Sequence[Part]) -> Iterator[LabelledPart]:
    """Label the parts in this process."""
    with closing(PartLabeller(plan)) as labeller:
        yield from map(labeller.label, parts)


def run(way: int, source: Path, output: Path) -> Figures:
    """One way over the whole input: workers on Ray, or 0 for none."""
    output.mkdir()
    settings = Settings.model_validate({"store": DEFAULT_STORE})
    plan = make_plan(BulkOptions(source, output, TASK, part_rows=PART_ROWS, keep=()), settings)
    parts = resume(plan.job, output)
    started = time.perf_counter()
    done, times = [], []
    for part in label_on_ray(plan, parts, way, "local") if way else label_here(plan, parts):
        done.append(part)
        times.append(time.perf_counter())
    rows = sum(part.rows for part in done)
    if rows != sum(part.rows for part in parts) or any(part.failed for part in done):
        raise SystemExit(f"{rows} rows were labelled, {sum(part.failed for part in done)} of them without an answer")
    rate = (rows - done[0].rows) / (times[-1] - times[0])
    return Figures(rate, time.perf_counter() - started)


def page(kind: str, items: int, rounds: int, found: dict[str, list[Figures]]) -> str:
    """The table, as Markdown."""
    base = statistics.median(figures.rows_per_second for figures in found[next(iter(WAYS))])
    lines = [
        "# Bulk labelling",
        "",
        f"`python -m benchmarks.bulk --items {items} --rounds {rounds}`: {items:,} {kind}, in parts of {PART_ROWS}; "
        f"medians of {rounds} rounds, in alternation. Rows a second exclude the start; seconds include it.",
        "",
        "| way | rows a second | relative to the plain process | seconds in all |",
        "|---|---|---|---|",
    ]
    for name, figures in found.items():
        rate = statistics.median(figure.rows_per_second for figure in figures)
        seconds = statistics.median(figure.seconds for figure in figures)
        lines.append(f"| {name} | {rate:.0f} | {rate / base:.2f} | {seconds:.1f} |")
    return "\n".join([*lines, "", f"{machine()}, ray {importlib.metadata.version('ray')}.", ""])


def bench(
    items: Annotated[int, typer.Option(min=2 * PART_ROWS, help="Rows to label.")] = 6000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each way.")] = 3,
    drawings: Annotated[Path, typer.Option(help="Parquet file of rows; if missing, generated ones.")] = DRAWINGS,
    output: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Compare bulk labelling on Ray Data with a plain loop."""
    found: dict[str, list[Figures]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "input.parquet"
        kind = write_input(source, items, drawings)
        for number in range(rounds):
            for name, way in WAYS.items():
                found[name].append(run(way, source, Path(folder) / f"{way}-{number}"))
    table = page(kind, items, rounds, found)
    Console().print(table, markup=False, soft_wrap=True)
    if output is not None:
        output.write_text(table)


if __name__ == "__main__":
    typer.run(bench)
