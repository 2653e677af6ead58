"""Accuracies of simple methods on the small data sets: the largest label, texts alone, pictures alone."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from examples.small_data.sets import SETS
from training.learning.picture_features import picture_features
from training.learning.regression import kernel, logistic_regression, ngrams

FOLDS = KFold(5, shuffle=True, random_state=0)
STRENGTH = 30  # C


def yardsticks(folder: Annotated[Path, typer.Argument(help="Folder that prepare wrote.")]) -> None:
    """Print accuracies; those of texts and pictures by five-fold cross-validation over the rows that have one."""
    table = Table("set", "largest label", "text: TF-IDF + LR", "picture: HOG + colours + kernel LR")
    for small_set in track(SETS, "Scoring"):
        rows = pq.read_table(folder / f"{small_set.name}.parquet").to_pylist()
        with_text = [row for row in rows if row["text"] is not None]
        with_picture = [row for row in rows if row["image"] is not None]
        texts = np.array([row["text"] for row in with_text])
        pictures = np.stack([picture_features(row["image"]) for row in with_picture])
        of_texts = make_pipeline(ngrams(), logistic_regression(STRENGTH))
        smallest = pictures[: len(pictures) * 4 // 5]  # of the folds' training pictures
        of_pictures = make_pipeline(kernel(smallest), logistic_regression(STRENGTH))
        table.add_row(
            small_set.name,
            f"{max(Counter(row['label'] for row in rows).values()) / len(rows):.1%}",
            score(of_texts, with_text, texts),
            score(of_pictures, with_picture, pictures),
        )
    Console().print(table)


def score(model: BaseEstimator, rows: list[dict[str, Any]], inputs: np.ndarray) -> str:
    labels = [row["label"] for row in rows]
    return f"{cross_val_score(model, inputs, labels, cv=FOLDS).mean():.1%}"


if __name__ == "__main__":
    typer.run(yardsticks)
