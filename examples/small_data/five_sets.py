"""Compare the methods of `mora-train compare` on five data sets, with a backbone that has seen none of them."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from rich.console import Console
from scipy.stats import t as student

from examples.openclipart.cleaning import split_key
from training.provenance import machine
from training.report.plots import VIEWS

OPENCLIPART = Path(__file__).parents[1] / "openclipart"
BACKBONE = OPENCLIPART / "clean_backbone"
SPLITS = ("train", "validation", "test")
SEEDS = PARTITIONS = ("0", "1", "2")
POWER = 0.8


class Task(NamedTuple):
    """A task of one of the five sets. The two tasks on units count half, so that each set counts alike."""

    set_name: str
    metric: str
    problem: str = "single_label"
    share: float = 1.0


TASKS = {
    "starships-385": Task("starships", "accuracy"),
    "stamps-500": Task("stamps", "accuracy"),
    "units-150": Task("units", "accuracy", share=0.5),  # race
    "units-200": Task("units", "accuracy", share=0.5),  # alignment
    "category": Task("category", "accuracy"),
    "keywords": Task("keywords", "macro_f1", "multi_label"),
}
SETTINGS = {  # the missing ratio of each split
    "missing": {"train": 0.7, "validation": 0.7, "test": 0.7},
    "complete": {"train": 0.0, "validation": 0.0, "test": 0.7},
}


def compare(
    folder: Annotated[Path, typer.Argument(help="The folder of `examples.small_data.prepare`.")],
    setting: Annotated[str, typer.Option(help=f"{' or '.join(SETTINGS)}: the items of train.")] = "missing",
    tasks: Annotated[
        list[str] | None, typer.Option(help=f"Some of {', '.join(TASKS)}, also in the table; by default all.")
    ] = None,
    methods: Annotated[list[str] | None, typer.Option(help="As of `mora-train compare`; by default all.")] = None,
    backbone: Annotated[Path, typer.Option(help="Folder in transformers' format.")] = BACKBONE,
) -> None:
    """Run `mora-train compare` on each task and write FOLDER/five_sets/SETTING/table.md.

    Three seeds, three partitions, the learning rate of each method searched alike. Takes a day on two cores. Given
    again, it goes on with the runs that are missing, and other methods are added to the table. The openclipart tasks
    need `python -m examples.openclipart.prepare`.
    """
    output = folder / "five_sets" / setting
    for name in tasks or TASKS:
        config = write_task(name, folder, setting, output, backbone)
        command = [sys.executable, "-m", "training", "compare", str(config), "--methods", *(methods or ["all"])]
        command += ["--seeds", *SEEDS, "--partitions", *PARTITIONS, "--output", str(output / name)]
        subprocess.run(command, check=True)
        keep_all(output / name)
    found = {name: json.loads((output / name / "all.json").read_text()) for name in tasks or TASKS}
    page = f"On {machine()}.\n\n{tables(found)}\n"
    (output / "table.md").write_text(page, encoding="utf-8")
    Console(soft_wrap=True).print(page, markup=False)


def write_task(name: str, folder: Path, setting: str, output: Path, backbone: Path) -> Path:
    """The configuration of a task, and the items of an openclipart task in one file."""
    output.mkdir(parents=True, exist_ok=True)
    data = folder.resolve() / f"{name}.parquet"
    if name in ("category", "keywords"):
        write_drawings(OPENCLIPART / "data" / name, data)
    task = {
        "task": name,
        "problem": TASKS[name].problem,
        "backbone": str(backbone.resolve()),
        "data": {"train": str(data)},
        "missing": {split: {"ratio": ratio} for split, ratio in SETTINGS[setting].items()},
    }
    path = output / f"{name}.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return path


def write_drawings(splits: Path, path: Path) -> None:
    """The items of all splits in one file: of drawings whose names differ in a number or a plural, the first."""
    rows = [row for split in SPLITS for row in pq.read_table(splits / f"{split}.parquet").to_pylist()]
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(split_key(None, Path(row["path"]).stem), row)
    pq.write_table(pa.Table.from_pylist([*first.values()], pq.read_schema(splits / "train.parquet")), path)


def keep_all(folder: Path) -> None:
    """Add the methods of comparison.json to all.json, which keeps those of earlier calls."""
    new, path = json.loads((folder / "comparison.json").read_text()), folder / "all.json"
    old = json.loads(path.read_text())["methods"] if path.is_file() else {}
    path.write_text(json.dumps({**new, "methods": old | new["methods"]}))


def tables(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of the methods for each view of the test items, and one of the calibration error."""
    parts = [part for view in VIEWS for part in (f"Test items: {view}", table(found, view))]
    return "\n\n".join([*parts, "Calibration error of `ours`", errors(found)])


def table(found: Mapping[str, Mapping[str, Any]], view: str) -> str:
    """One row for each method that every task has: the score of each task, the mean of the sets, the lead of `ours`."""
    first, *others = (each["methods"] for each in found.values())
    lines = [
        f"| method | {' | '.join(found)} | mean | `ours` leads by | found with a power of {POWER:.0%} |",
        f"|---|{'---:|' * (len(found) + 3)}",
    ]
    for method in [name for name in first if all(name in each for each in others)]:
        scores, ours = (
            {name: runs_of(each, chosen, TASKS[name].metric, view) for name, each in found.items()}
            for chosen in (method, "ours")
        )
        mean = sum(share * scores[name].mean() for name, share in shares(found).items())
        cells = [f"{100 * value:.1f}" for value in (*(each.mean() for each in scores.values()), mean)]
        if method != "ours":
            lead, half, least = (100 * value for value in paired_lead(ours, scores))
            cells += [f"{lead:+.1f} ± {half:.1f}", f"{least:.1f}"]
        lines.append(f"| {' | '.join([method, *cells, *[''] * (len(found) + 3 - len(cells))])} |")
    return "\n".join(lines)


def errors(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The expected calibration error of the calibrated confidence of `ours`, by the view of the test items."""
    lines = [f"| task | {' | '.join(VIEWS)} |", f"|---|{'---:|' * len(VIEWS)}"]
    for name, each in found.items():
        values = (runs_of(each, "ours", "ece_calibrated", view).mean() for view in VIEWS)
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(lines)


def runs_of(comparison: Mapping[str, Any], method: str, metric: str, view: str) -> np.ndarray:
    """(partitions, seeds) scores of a method on the test split."""
    scores = np.array(comparison["methods"][method]["test"][view][metric], float)
    return scores.reshape(len(comparison["partitions"]), -1)


def shares(names: Iterable[str]) -> dict[str, float]:
    """The share of each task in the mean of the sets."""
    total = sum(TASKS[name].share for name in names)
    return {name: TASKS[name].share / total for name in names}


def paired_lead(ours: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Mean lead over the sets, half its 95 % interval, and the least lead that this test finds with a power of 80 %.

    A partition counts as the mean of its seeds. The variance of a task is that over its partitions; the degrees of
    freedom of the weighted sum are Welch's and Satterthwaite's.
    """
    lead, parts, counts = 0.0, [], []
    for name, weight in shares(ours).items():
        each = (ours[name] - other[name]).mean(axis=1)
        lead += weight * float(each.mean())
        parts.append(weight**2 * float(each.var(ddof=1)) / len(each))
        counts.append(len(each) - 1)
    variance = sum(parts)
    if variance == 0:
        return lead, 0.0, 0.0
    freedom = variance**2 / sum(part**2 / count for part, count in zip(parts, counts, strict=True))
    error, quantile = math.sqrt(variance), float(student.ppf(0.975, freedom))
    return lead, quantile * error, (quantile + float(student.ppf(POWER, freedom))) * error


if __name__ == "__main__":
    typer.run(compare)
