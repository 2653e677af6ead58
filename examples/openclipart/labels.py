"""Soft category labels for texts and pictures without a category, from classifiers of the training drawings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

FOLDS = 5


@dataclass(frozen=True)
class View:
    """One view of the items: a classifier and its input, with one row for each item."""

    classifier: BaseEstimator
    inputs: npt.NDArray[Any]


def embedded(embeddings: Tensor, c: float) -> View:
    """Logistic regression on a teacher's embeddings (N, D)."""
    return View(make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)), embeddings.float().numpy())


def spelt(texts: list[str]) -> View:
    """Logistic regression on character n-grams, which also learns the names of programs."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True)
    return View(make_pipeline(vectorizer, LogisticRegression(C=30, max_iter=2000)), np.array(texts, dtype=object))


def soft_categories(views: list[View], categories: list[str | None]) -> Tensor:
    """The probability of each category for every item, (N, C) in alphabetical order.

    The probabilities of the views are multiplied and normalised. An item with a known category takes half from it,
    and half from classifiers that were fitted without the item, so that unusual labels are not memorised.
    """
    known = np.array([i for i, category in enumerate(categories) if category])
    labels = np.array([category for category in categories if category])
    logs = torch.stack([torch.from_numpy(log_probabilities(view, known, labels)) for view in views]).mean(0)
    soft = logs.softmax(1).float()
    hard = torch.from_numpy(labels[:, None] == np.unique(labels)).float()
    soft[known] = (soft[known] + hard) / 2
    return soft


def log_probabilities(view: View, known: npt.NDArray[np.int_], labels: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Probabilities (N, C). The classifier is fitted on the known items, which are predicted by cross-validation."""
    inputs = view.inputs[known]
    held_out = cross_val_predict(view.classifier, inputs, labels, cv=FOLDS, method="predict_log_proba")
    result = view.classifier.fit(inputs, labels).predict_log_proba(view.inputs)
    result[known] = held_out
    return result
