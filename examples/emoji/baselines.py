"""Scores of trivial answers on the test split: the frozen backbone's features of the picture, of the text, of both."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from examples.openclipart.baselines import Features, Items, tower_features

HERE = Path(__file__).parent
CUTOFFS = (1, 5, 10)


def baselines(
    folder: Annotated[Path, typer.Argument(help="Folder that prepare wrote.")] = HERE / "data",
    backbone: Annotated[Path, typer.Option(help="Folder of the frozen backbone.")] = HERE.parent
    / "openclipart"
    / "backbone",
) -> None:
    """Print the recall of each answer at 1, 5 and 10, over all targets of the test split."""
    path = folder / "test.parquet"
    if not path.exists():
        raise typer.BadParameter(f"no file {path}: run `python -m examples.emoji.prepare {folder}`")
    rows = pq.read_table(path).to_pylist()
    table = Table("query", *(f"Recall@{cutoff}" for cutoff in CUTOFFS), title=f"{len(rows)} queries and targets")
    for name, recalls in recalls_of(rows, backbone).items():
        table.add_row(name, *(f"{recall:.1%}" for recall in recalls))
    Console().print(table)


def recalls_of(rows: list[dict[str, Any]], backbone: Path) -> dict[str, list[float]]:
    """Recall at each of CUTOFFS, by the name of the answer."""
    names = [""] * len(rows)
    with Console(stderr=True).status("Encoding pictures and texts"):
        images, texts = tower_features(
            backbone, Items([row["image"] for row in rows], [row["text"] for row in rows], names)
        )
        targets, _ = tower_features(backbone, Items([row["target_image"] for row in rows], names, names))
    ranks = {
        "picture alone": ranks_of(images, targets),
        "text alone": ranks_of(texts, targets),
        "sum of both": ranks_of(images + texts, targets),
    }
    chance = {"chance": [min(1.0, cutoff / len(rows)) for cutoff in CUTOFFS]}
    return chance | {
        name: [float(np.mean(of_query <= cutoff)) for cutoff in CUTOFFS] for name, of_query in ranks.items()
    }


def ranks_of(queries: Features, targets: Features) -> npt.NDArray[np.float64]:
    """The rank of each query's own target, from 1; targets of an equal score share the mean of their ranks. (N,)"""
    scores = queries @ targets.T  # (N, N)
    own = np.diag(scores)[:, None]
    better, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)  # its own score is one of the equal ones
    return np.asarray(better + (equal + 1) / 2)


if __name__ == "__main__":
    typer.run(baselines)
