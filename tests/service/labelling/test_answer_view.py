"""One answer on a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from service.api.answers import Classification
from service.labelling.answer_view import answer_view
from tests.support.faulty_service import ANSWER


def shown(**changes):
    console = Console(file=StringIO(), width=100)
    console.print(answer_view(Classification.model_validate({**ANSWER, **changes})))
    return console.file.getvalue()


def test_selected_labels_are_marked_and_bars_have_the_length_of_the_score():
    scores = {"a": (1.0, True), "b": (0.5, True), "c": (0.0, False)}
    labels = [{"label": label, "score": score, "selected": chosen} for label, (score, chosen) in scores.items()]

    rows = {line[0]: line for line in shown(labels=labels).splitlines() if line[:1] in scores and line[1:2] == " "}

    assert {label: "selected" in row for label, row in rows.items()} == {"a": True, "b": True, "c": False}
    assert [row.count("━") for row in rows.values()] == [24, 12, 0]
    assert ["100.0%" in rows["a"], "50.0%" in rows["b"], "0.0%" in rows["c"]] == [True] * 3


def test_markup_and_control_characters_of_a_label_have_no_effect():
    label = {"label": "[red]\x1b[1m\nx", "score": 0.1, "selected": False}

    (row,) = [line for line in shown(labels=[label]).splitlines() if "10.0%" in line]

    assert row.startswith("[red] [1m x ")


def test_an_explanation_shows_each_label_and_the_answers_without_a_modality():
    part = {"label": "apple", "logit": 3.5, "base": 0.5, "image": 1.0, "text": 2.0}
    other = [{"label": "pear", "score": 0.25, "selected": True}]
    view = shown(explanation={"carried_by": "text", "labels": [part], "without_image": other, "without_text": None})

    assert "apple   3.50    0.50     1.00    2.00" in view
    assert "carried by the text" in view
    assert "without the image: pear 25.0%" in view
    assert "without the text" not in view


@pytest.mark.parametrize(
    ("labels", "review", "line"),
    [
        (["apple"], False, "set with coverage 0.95: apple; no review needed"),
        (["apple", "pear"], True, "set with coverage 0.95: apple, pear; review: a person should look at this one"),
        ([], True, "set with coverage 0.95: no label; review: a person should look at this one"),
        (["[b]\x1b"], False, "set with coverage 0.95: [b] ; no review needed"),
    ],
)
def test_a_label_set_is_a_line_that_says_whether_to_review(labels, review, line):
    view = shown(label_set={"labels": labels, "coverage": 0.95, "review": review})
    assert line in [row.rstrip() for row in view.splitlines()]


def test_an_answer_without_a_label_set_has_no_such_line():
    assert "coverage" not in shown()
