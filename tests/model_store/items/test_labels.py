"""Labels of a cell."""

from __future__ import annotations

import datetime
import unicodedata
from decimal import Decimal

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.items.labels import LABEL_SEPARATOR, class_names, label_of, labels_of, with_names


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (" shoe\n", "shoe"),
        ("cafe\u0301", "caf\u00e9"),
        ("ca\u200bfe\u200d\u0301", "caf\u00e9"),
        ("\ufeffred\u00a0\u00a0 wine\u200e", "red wine"),
        ("\u00adtea\u2060", "tea"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        (0, "0"),
        (False, "False"),
        (1.0, "1"),
        (1.5, "1.5"),
        ("1.0", "1.0"),
        (Decimal("1.00"), "1"),
        (Decimal("0.10"), "0.1"),
        ("01", "01"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
    ],
)
def test_a_label_is_stripped_and_in_nfc(cell, label):
    assert label_of(cell) == label


@pytest.mark.parametrize("cell", [None, "", " \u00a0", "\u200b\ufeff", "\0", float("nan")])
def test_a_missing_cell_has_no_label(cell):
    assert label_of(cell) is None
    assert labels_of(cell) == ()


@pytest.mark.parametrize("cell", ["b| a |b||", ["b", " a ", None, "b", ""]])
def test_several_labels_are_a_list_or_joined_text(cell):
    assert labels_of(cell) == ("b", "a")


@pytest.mark.parametrize("cell", [b"cat", {"name": "cat"}, [["cat"]], ["cat", {}], [("cat", 1)]])
def test_a_cell_of_another_type_is_no_label(cell):
    with pytest.raises(ValueError, match=r"holds a label of type (bytes|dict|list|tuple), neither text nor a number"):
        labels_of(cell)


@pytest.mark.parametrize("cell", [["cat"], [], [None]])
def test_a_list_is_no_single_label(cell):
    with pytest.raises(ValueError, match="holds a label of type list"):
        label_of(cell)


@given(st.text(st.characters() | st.sampled_from("\u200b\u200c\u200d\u0301\u094d\u0915\u0645\U0001f680")))
def test_a_label_is_its_own_label(text):
    assert label_of(label_of(text)) == label_of(text)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters=LABEL_SEPARATOR, exclude_categories=["Cs"]))))
def test_joined_labels_are_read_as_their_list_in_either_normal_form(labels):
    decomposed = [unicodedata.normalize("NFD", label) for label in labels]

    assert labels_of(LABEL_SEPARATOR.join(labels)) == labels_of(labels) == labels_of(decomposed)


def test_class_names_come_from_the_features_of_datasets():
    kind = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features(
        {"one": kind, "many": datasets.List(kind), "text": datasets.Value("string"), "image": datasets.Image()}
    ).to_dict()
    old_forms = {
        "sequence": {"feature": {"names": ["a"], "_type": "ClassLabel"}, "_type": "Sequence"},
        "list": [{"names": ["b"], "_type": "ClassLabel"}],
    }

    assert class_names(features | old_forms) == {
        "one": ["cat", "dog"],
        "many": ["cat", "dog"],
        "sequence": ["a"],
        "list": ["b"],
    }


@pytest.mark.parametrize("names", [{}, {"names": None}, {"names": {"0": "cat"}}, {"num_classes": 2}])
def test_a_class_label_without_a_list_of_names_keeps_its_numbers(names):
    assert class_names({"label": {"_type": "ClassLabel", **names}}) == {}


def test_a_negative_number_of_a_class_is_no_label():
    names = ["cat", "dog"]

    assert [with_names(cell, names) for cell in (0, 1, 1.0, -1, -1.0, None, [1, -1], "dog")] == [
        "cat",
        "dog",
        "dog",
        None,
        None,
        None,
        ["dog", None],
        "dog",
    ]


def test_a_class_without_a_name_is_an_error():
    with pytest.raises(ValueError, match="class 2 has no name: the names are of 0 to 1"):
        with_names(2, ["cat", "dog"])
