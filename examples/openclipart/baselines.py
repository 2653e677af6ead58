"""Baselines for the category task: title or picture alone without pretraining, and the towers of a backbone."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from training.learning.picture_features import picture_features

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Items:
    """One split of the category task; an absent text is the empty string."""

    images: list[bytes]  # encoded
    texts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Score:
    name: str
    validation_accuracy: float
    accuracy: float
    macro_f1: float


def read_items(path: Path) -> Items:
    rows = pq.read_table(path, columns=["image", "text", "label"]).to_pylist()
    return Items([row["image"] for row in rows], [row["text"] or "" for row in rows], [row["label"] for row in rows])


def best_on_validation(name: str, candidates: list[BaseEstimator], inputs: list[Any], splits: list[Items]) -> Score:
    """Fit every candidate on train, choose the best validation accuracy, and score that candidate on test."""
    train, validation, test = splits
    accuracies = [
        accuracy_score(validation.labels, model.fit(inputs[0], train.labels).predict(inputs[1])) for model in candidates
    ]
    best = int(np.argmax(accuracies))
    predicted = candidates[best].predict(inputs[2])
    macro_f1 = f1_score(test.labels, predicted, average="macro")
    return Score(name, accuracies[best], accuracy_score(test.labels, predicted), macro_f1)


def score_titles(splits: list[Items]) -> Score:
    """Character TF-IDF and logistic regression."""
    candidates = [
        make_pipeline(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(1, longest), sublinear_tf=True, min_df=min_df),
            LogisticRegression(C=c, max_iter=2000),
        )
        for longest in (4, 5)
        for min_df in (1, 2)
        for c in (3, 10, 30, 100)
    ]
    return best_on_validation("title: TF-IDF + LR", candidates, [items.texts for items in splits], splits)


def score_pictures(splits: list[Items]) -> Score:
    """Histogram of oriented gradients, colour histogram and a support vector machine."""
    inputs = [np.stack([picture_features(image) for image in track(items.images, "HOG")]) for items in splits]
    candidates = [
        make_pipeline(StandardScaler(), SVC(C=c, gamma=gamma / inputs[0].shape[1]))
        for c in (3, 10, 30)
        for gamma in (0.1, 0.3, 1.0)
    ]
    return best_on_validation("picture: HOG + colours + SVM", candidates, inputs, splits)


def score_backbone(directory: Path, splits: list[Items]) -> list[Score]:
    """Logistic regression on the features of each tower, and on both."""
    images, texts = zip(*(tower_features(directory, items) for items in splits), strict=True)
    both = [np.concatenate(pair, axis=1) for pair in zip(images, texts, strict=True)]
    named = {"backbone, text": list(texts), "backbone, image": list(images), "backbone, both": both}
    return [best_on_validation(name, regressions(), inputs, splits) for name, inputs in named.items()]


def regressions() -> list[BaseEstimator]:
    return [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)) for c in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    ]


def tower_features(directory: Path, items: Items, batch_size: int = 128) -> tuple[Features, Features]:
    """Normalised projections of images and texts, each (N, P)."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    processor = CLIPImageProcessor.from_pretrained(directory)
    images, texts = [], []
    with torch.inference_mode():
        for start in range(0, len(items.labels), batch_size):
            chosen = slice(start, start + batch_size)
            pictures = [Image.open(io.BytesIO(image)).convert("RGB") for image in items.images[chosen]]
            pixels = processor(images=pictures, return_tensors="pt")
            tokens = tokenizer(items.texts[chosen], padding=True, truncation=True, return_tensors="pt")
            images.append(pooled(model.get_image_features(**pixels)))
            texts.append(pooled(model.get_text_features(**tokens)))
    return np.concatenate(images), np.concatenate(texts)


def pooled(output: object) -> Features:
    """Rows of length one; transformers 5 wraps the projection in an output object."""
    features = cast("torch.Tensor", getattr(output, "pooler_output", output)).numpy()
    return cast(Features, features / np.linalg.norm(features, axis=1, keepdims=True))


def baselines(
    data: Annotated[Path, typer.Option(help="Folder with {train,validation,test}.parquet.")] = HERE
    / "data"
    / "category",
    backbone: Annotated[Path | None, typer.Option(help="Also score the towers of this folder.")] = None,
    only_backbone: Annotated[bool, typer.Option(help="Skip the two baselines.")] = False,
) -> None:
    """Print accuracy and macro-F1 on the test split; all tuning uses the validation split."""
    splits = [read_items(data / f"{name}.parquet") for name in ("train", "validation", "test")]
    scores = [] if only_backbone else [score_titles(splits), score_pictures(splits)]
    if backbone:
        scores += score_backbone(backbone, splits)
    table = Table("features", "validation accuracy", "test accuracy", "test macro-F1")
    for s in scores:
        table.add_row(s.name, f"{s.validation_accuracy:.3f}", f"{s.accuracy:.3f}", f"{s.macro_f1:.3f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(baselines)
