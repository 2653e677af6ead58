"""Yardsticks: their scores in each view, the cells that they read, and items of which they can read nothing."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_store import Problem
from training.config import TaskConfig
from training.data.examples import Example
from training.data.missing import Lacks, draw_tables
from training.data.splits import Split, TaskData
from training.errors import ConfigError
from training.learning.picture_features import PictureFeatures
from training.learning.yardsticks import check_installed, measure

C = {"majority": None, "tfidf": 30.0, "hog": 30.0}
VIEWS = ("overall", "both", "image", "text")
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@dataclass(frozen=True)
class Kind:
    """A made data set, whose pictures and texts both show the labels."""

    labels: tuple[str, ...]
    problem: Problem = Problem.SINGLE_LABEL
    without_image: int = 0  # every so many items lack it in the data; 0: none does
    without_text: int = 0  # 1: every item
    frequent: int = 1  # every so many items more have the first label


KINDS = {
    "single-label": Kind(("red", "green", "blue"), frequent=4),
    "multi-label": Kind(("red", "green", "blue"), Problem.MULTI_LABEL),
    "naturally missing": Kind(("red", "green", "blue"), without_image=5, without_text=3, frequent=4),
    "no texts": Kind(("red", "green"), without_text=1, frequent=4),
    "two labels": Kind(("red", "green"), without_image=4, frequent=4),
}


def picture(labels: Sequence[str], seed: int) -> bytes:
    """A stripe of each label's colour, with noise."""
    pixels = np.random.default_rng(seed).integers(0, 60, (32, 32, 3))
    for part, label in zip(np.array_split(pixels, max(len(labels), 1)), labels, strict=False):
        part += np.array(COLOURS[label]) * 3 // 4
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def items(kind: Kind, count: int, start: int) -> list[Example]:
    made = []
    for row in range(1, count + 1):
        chosen = kind.labels[0 if kind.frequent > 1 and row % kind.frequent == 0 else row % len(kind.labels)]
        labels: tuple[str, ...] = (chosen,)
        if kind.problem is Problem.MULTI_LABEL:
            labels = tuple(label for bit, label in enumerate(kind.labels) if row >> bit & 1)
        image = None if kind.without_image and row % kind.without_image == 0 else picture(labels, start + row)
        is_silent = kind.without_text and row % kind.without_text == 0 and image is not None
        made.append(Example(row, image, None if is_silent else f"{' and '.join(labels)} no {start + row}", labels))
    return made


@cache
def made(kind: Kind) -> TaskData:
    parts = {"train": items(kind, 48, 0), "validation": items(kind, 20, 100), "test": items(kind, 24, 200)}
    return TaskData(kind.labels, **{name: Split(name, "made", part) for name, part in parts.items()})


def task(kind: Kind, ratio: float = 0.5, **fields: Any) -> TaskConfig:
    missing = {"type": "both", "ratio": ratio}
    values = {
        "task": "made",
        "problem": kind.problem,
        "backbone": "none",
        "data": {"train": "made"},
        "missing": {"train": missing, "validation": missing, "test": missing},
        **fields,
    }
    return TaskConfig.model_validate(values)


def measured(name: str, config: TaskConfig, data: TaskData) -> dict[str, Any]:
    metrics = measure(name, C[name], config, data, PictureFeatures())
    assert metrics.pop("seconds")["train"] >= 0
    return metrics


@cache
def scored(name: str, kind: str) -> dict[str, Any]:
    return measured(name, task(KINDS[kind]), made(KINDS[kind]))


def changed(example: Example, lacks: int, seed: int) -> Example:
    """Another picture in place of a hidden one, another text in place of a hidden one."""
    if lacks == Lacks.IMAGE and example.image is not None:
        return replace(example, image=picture(("blue", "red"), 1000 + seed))
    if lacks == Lacks.TEXT and example.text is not None:
        return replace(example, text=f"green green blue {seed}")
    return example


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no texts"])  # there, no table hides anything
@pytest.mark.parametrize("name", C)
@pytest.mark.slow
def test_the_hidden_cells_of_train_and_validation_are_never_read(name: str, kind: str) -> None:
    data, config = made(KINDS[kind]), task(KINDS[kind])
    tables = draw_tables(config, data)
    other = {
        split: Split(
            split,
            "made",
            [
                changed(item, lacks, row)
                for row, (item, lacks) in enumerate(zip(each.items, tables[split], strict=True))
            ],
        )
        for split, each in data.splits().items()
    }

    before = scored(name, kind)
    after = measured(name, config, replace(data, **{**other, "test": data.test}))

    assert all(other[split].items != data.splits()[split].items for split in other)
    assert (after["test"], after["validation"]["overall"]) == (before["test"], before["validation"]["overall"])
    after = measured(name, config, replace(data, **other))
    assert after["test"]["overall"] == before["test"]["overall"]


@pytest.mark.parametrize("name", ["tfidf", "hog"])
@pytest.mark.parametrize("kind", ["single-label", "multi-label", "naturally missing", "two labels"])
@pytest.mark.slow
def test_the_visible_cells_of_train_are_read(name: str, kind: str) -> None:
    """Without what the visible cells show of the labels, the scores fall."""
    data, config = made(KINDS[kind]), task(KINDS[kind])
    inputs = [
        replace(item, image=None if item.image is None else picture((), item.row), text="x" * item.row)
        for item in data.train.items
    ]

    before = scored(name, kind)
    after = measured(name, config, replace(data, train=Split("train", "made", inputs)))

    view = "text" if name == "tfidf" else "image"
    assert after["test"][view]["log_loss"] > before["test"][view]["log_loss"] + 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_yardstick_answers_what_it_cannot_read_as_the_majority_does(kind: str) -> None:
    majority, text, image = (scored(name, kind) for name in C)

    for split, score in itertools.product(("validation", "test"), ("items", "log_loss", "macro_f1", "ece")):
        assert text[split]["image"][score] == majority[split]["image"][score]
        assert image[split]["text"][score] == majority[split]["text"][score]


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_the_answer_to_both_is_that_to_the_modality_it_reads(kind: str) -> None:
    text, image = (scored(name, kind)["test"] for name in ("tfidf", "hog"))

    for score in ("items", "log_loss", "macro_f1", "ece"):
        assert text["both"][score] == text["text"][score]
        assert image["both"][score] == image["image"][score]


@pytest.mark.parametrize("kind", KINDS)
def test_a_yardstick_is_better_than_the_majority_where_it_can_read(kind: str) -> None:
    majority, text, image = (scored(name, kind)["test"] for name in C)

    if kind != "no texts":
        assert text["text"]["log_loss"] < majority["text"]["log_loss"] - 0.1
        assert text["text"]["macro_f1"] > majority["text"]["macro_f1"]
    assert image["image"]["log_loss"] < majority["image"]["log_loss"] - 0.1
    assert image["image"]["macro_f1"] > majority["image"]["macro_f1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", C)
def test_the_metrics_have_the_form_of_a_fit(name: str, kind: str) -> None:
    metrics = scored(name, kind)

    assert metrics["trainable_parameters"] is None
    expected = {"log_loss", "ece", "ece_calibrated", "confidence", "macro_f1"}
    for split in ("validation", "test"):
        assert tuple(metrics[split]) == VIEWS
        for view in VIEWS:
            scores = metrics[split][view]
            assert expected < scores.keys()
            assert ("auroc" in scores) == (len(KINDS[kind].labels) == 2)
            assert scores["items"] == 0 or scores["log_loss"] is not None


def test_the_majority_is_the_most_frequent_label_whatever_is_hidden() -> None:
    kind = KINDS["single-label"]
    data = made(kind)
    share = np.mean([item.labels == ("red",) for item in data.test.items])

    results = [measured("majority", task(kind, ratio), data)["test"] for ratio in (0.0, 0.5, 1.0)]

    assert [result[view]["accuracy"] for result in results for view in VIEWS] == pytest.approx([share] * 12, abs=1e-6)


def test_the_majority_does_not_order_items_of_two_labels() -> None:
    assert measured("majority", task(KINDS["two labels"]), made(KINDS["two labels"]))["test"]["overall"]["auroc"] == 0.5


@pytest.mark.parametrize("name", C)
@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_a_label_that_train_does_not_have_has_a_finite_score(name: str, kind: str) -> None:
    data = replace(made(KINDS[kind]), labels=("red", "green", "blue", "yellow"))

    scores = measured(name, task(KINDS[kind]), data)["test"]["overall"]

    assert scores["log_loss"] is not None


@pytest.mark.parametrize("balanced", ["none", "balanced"])
def test_class_weights_hold_for_yardsticks_too(balanced: str) -> None:
    """A rare label is answered more often if every label counts the same."""
    kind = KINDS["two labels"]
    rows = [Example(row, None, "same words", ("green" if row % 5 == 0 else "red",)) for row in range(40)]
    data = TaskData(kind.labels, **{name: Split(name, "made", rows) for name in ("train", "validation", "test")})

    scores = measured("tfidf", task(kind, 0.0, train={"class_weights": balanced}), data)["test"]["overall"]

    assert scores["confidence"] == pytest.approx(0.8 if balanced == "none" else 0.5, abs=0.02)


@pytest.mark.parametrize(
    ("names", "needing"),
    [(["tfidf"], "tfidf"), (["head", "hog"], "hog"), (["majority", "tfidf", "hog", "ours"], "tfidf and hog")],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, names: list[str], needing: str
) -> None:
    monkeypatch.setattr(builtins, "__import__", without_sklearn(builtins.__import__))

    cure = r"pip install 'mora-serve\[train\]'"
    with pytest.raises(ConfigError, match=rf"^--methods: scikit-learn for {needing} is missing[^\n]*{cure}[^\n]*$"):
        check_installed(names)


@pytest.mark.parametrize("names", [["majority"], ["head", "ours"], []])
def test_methods_without_the_package_run_without_it(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setattr(builtins, "__import__", without_sklearn(builtins.__import__))

    check_installed(names)
    measured("majority", task(KINDS["two labels"]), made(KINDS["two labels"]))


def without_sklearn(imported: Callable[..., Any]) -> Callable[..., Any]:
    def import_(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
        return imported(name, *arguments, **named)

    return import_
