"""Labels of a cell: from text, a list, or the numbers of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from model_store.items.missing import is_missing

LABEL_SEPARATOR = "|"  # between the labels of one cell, where a file has no lists


def label_of(cell: object) -> str | None:
    """The one label of a cell in Unicode's form NFC, without white space around it; None if the cell is missing."""
    return None if is_missing(cell) else unicodedata.normalize("NFC", str(cell)).strip()


def labels_of(cell: object) -> tuple[str, ...]:
    """The labels of a list, or of text that joins them by `|`; each once, in order."""
    if is_missing(cell):
        return ()
    cells = cell if isinstance(cell, list) else str(cell).split(LABEL_SEPARATOR)
    return tuple(dict.fromkeys(label for each in cells if (label := label_of(each)) is not None))


def class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Names of the classes of each column that holds a ClassLabel, or a list of them.

    Args:
        features: the columns as Hugging Face's `datasets` describes them (`Features.to_dict`).
    """
    kinds = {column: _element(feature) for column, feature in features.items()}
    return {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}


def with_names(cell: object, names: Sequence[str]) -> object:
    """A cell with names in place of the numbers of classes; a number below 0 means no label.

    Raises ValueError for a number that has no name.
    """
    if isinstance(cell, list):
        return [with_names(each, names) for each in cell]
    if not isinstance(cell, int) or cell < 0:
        return None if isinstance(cell, int) else cell
    if cell >= len(names):
        raise ValueError(f"class {cell} has no name: the names are of 0 to {len(names) - 1}")
    return names[cell]


def _element(feature: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    """A feature, or what a list of it holds; lists have had two forms."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict) and "feature" in feature:
        return _element(feature["feature"])
    return feature if isinstance(feature, dict) else {}
