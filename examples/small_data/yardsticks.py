"""Accuracies of simple methods on the small data sets: the largest label, texts alone, pictures alone."""

import io
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from examples.openclipart.baselines import hog_and_colours
from examples.small_data.sets import SETS

FOLDS = KFold(5, shuffle=True, random_state=0)


def yardsticks(folder: Annotated[Path, typer.Argument(help="Folder that prepare wrote.")]) -> None:
    """Print accuracies; those of texts and pictures by five-fold cross-validation over the rows that have one."""
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=2)
    table = Table("set", "largest label", "text: TF-IDF + LR", "picture: HOG + colours + SVM")
    for small_set in track(SETS, "Scoring"):
        rows = pq.read_table(folder / f"{small_set.name}.parquet").to_pylist()
        with_text = [row for row in rows if row["text"] is not None]
        with_picture = [row for row in rows if row["image"] is not None]
        pictures = [hog_and_colours(Image.open(io.BytesIO(row["image"])).convert("RGB")) for row in with_picture]
        table.add_row(
            small_set.name,
            f"{max(Counter(row['label'] for row in rows).values()) / len(rows):.1%}",
            score(
                make_pipeline(words, LogisticRegression(C=30, max_iter=2000)), with_text, [r["text"] for r in with_text]
            ),
            score(make_pipeline(StandardScaler(), SVC(C=10, gamma=0.3 / len(pictures[0]))), with_picture, pictures),
        )
    Console().print(table)


def score(model: BaseEstimator, rows: list[dict[str, Any]], inputs: list[Any]) -> str:
    labels = [row["label"] for row in rows]
    return f"{cross_val_score(model, np.array(inputs), labels, cv=FOLDS).mean():.1%}"


if __name__ == "__main__":
    typer.run(yardsticks)
