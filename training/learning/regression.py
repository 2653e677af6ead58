"""Logistic regression on the texts or the pictures of items, with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from model_store import Problem
from training.learning.picture_features import Floats

if TYPE_CHECKING:  # scikit-learn takes a second, and older installations may lack it
    from sklearn.base import BaseEstimator
    from sklearn.linear_model import LogisticRegression

Inputs = Sequence[str] | Floats  # texts, or picture features (n, F)
_LONGEST = 4  # characters of an n-gram
_MOST_NGRAMS = 50_000  # the most frequent ones; bounds the memory of a task with many labels
_LANDMARKS = 1000  # training pictures that approximate the kernel
_KERNEL = 0.3  # its gamma, as a multiple of 1 / F
_MOST_STEPS = 2000


def ngrams() -> BaseEstimator:
    """Texts as TF-IDF of character n-grams within words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, _LONGEST), sublinear_tf=True, max_features=_MOST_NGRAMS)


def kernel(pictures: Floats) -> BaseEstimator:
    """Picture features as their RBF kernels with training pictures (Nystroem's method).

    A linear model on them is nearly a support vector machine in accuracy, but gives probabilities, and its time is
    linear in the number of pictures.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count, width = pictures.shape
    approximation = Nystroem(gamma=_KERNEL / width, n_components=min(count, _LANDMARKS), random_state=0)
    return make_pipeline(StandardScaler(), approximation)


def logistic_regression(strength: float, is_balanced: bool = False) -> LogisticRegression:
    """Of L2 regularisation with C = `strength`. If balanced, every label counts the same."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced" if is_balanced else None, max_iter=_MOST_STEPS)


class Regression:
    """Logistic regression that answers every label of a task.

    A label that is not learnable, because no training item or every one has it, is answered with its share.
    """

    def __init__(
        self,
        features: BaseEstimator,
        classifier: LogisticRegression,
        inputs: Inputs,
        targets: Tensor,
        shares: Tensor,
        problem: Problem,
    ) -> None:
        """Train on `inputs`.

        Args:
            classifier: fitted for each label of a multi-label task, and once for a single-label task.
            targets: class indices (n,), or (n, C) of 0 and 1.
            shares: (C,), the logits of the labels' shares.
        """
        from sklearn.base import clone

        self._features, self._shares, self._problem = features, shares, problem
        if problem is Problem.SINGLE_LABEL:
            parts = [(torch.tensor(np.unique(targets)), targets)]
        else:
            parts = [(torch.tensor([label]), column) for label, column in enumerate(targets.T)]
        parts = [(labels, column) for labels, column in parts if len(np.unique(column)) > 1]
        rows = features.fit_transform(inputs) if parts else None
        self._models = [(labels, clone(classifier).fit(rows, column.numpy())) for labels, column in parts]

    def logits(self, inputs: Inputs) -> Tensor:
        """(n, C)."""
        answers = self._shares.repeat(len(inputs), 1)
        rows = self._features.transform(inputs) if self._models else None
        for labels, model in self._models:
            decision = torch.from_numpy(model.decision_function(rows)).reshape(len(inputs), -1)
            answers[:, labels] = self._scaled(decision, self._shares[labels]).float()
        return answers

    def _scaled(self, decision: Tensor, shares: Tensor) -> Tensor:
        """Logits (n, labels); of a single-label task, the labels together keep their share."""
        if self._problem is Problem.MULTI_LABEL:
            return decision
        if decision.shape[1] == 1:  # of two labels
            decision = torch.cat([torch.zeros_like(decision), decision], dim=1)
        return decision.log_softmax(dim=1) + shares.logsumexp(dim=0)
