"""The labels of a cell that holds text, a list, or class numbers."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from model_store.items.cells import is_missing

LABEL_SEPARATOR = "|"  # between the labels of one cell in a file format without lists


def label_of(cell: object) -> str | None:
    """The single label of a cell, in Unicode NFC and without surrounding white space; None if the cell is missing."""
    return None if is_missing(cell) else unicodedata.normalize("NFC", str(cell)).strip()


def labels_of(cell: object) -> tuple[str, ...]:
    """The distinct labels, in order, of a list or of text with `|` between the labels."""
    if is_missing(cell):
        return ()
    cells = cell if isinstance(cell, list) else str(cell).split(LABEL_SEPARATOR)
    return tuple(dict.fromkeys(label for element in cells if (label := label_of(element)) is not None))


def class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The class names of each column that holds a ClassLabel, or a list of ClassLabel.

    Args:
        features: the description of the columns by Hugging Face's `datasets` (`Features.to_dict`).
    """
    kinds = {column: _element(feature) for column, feature in features.items()}
    return {column: kind["names"] for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}


def with_names(cell: object, names: Sequence[str]) -> object:
    """A cell with class names in place of class numbers; a number below 0 means no label.

    Raises ValueError for a number without a name.
    """
    if isinstance(cell, list):
        return [with_names(element, names) for element in cell]
    if not isinstance(cell, int) or cell < 0:
        return None if isinstance(cell, int) else cell
    if cell >= len(names):
        raise ValueError(f"class {cell} has no name: the names are of 0 to {len(names) - 1}")
    return names[cell]


def _element(feature: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    """The feature itself, or the element of a list feature; `datasets` has written lists in two forms."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict) and "feature" in feature:
        return _element(feature["feature"])
    return feature if isinstance(feature, dict) else {}
