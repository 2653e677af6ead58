"""The labels of a cell that holds text, a list, or class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from model_store.items.cells import is_missing
from model_store.items.invisible import visible_form

LABEL_SEPARATOR = "|"  # between the labels of one cell in a file format without lists


def label_of(cell: object) -> str | None:
    """The single label of a cell, or None if the cell is missing. Labels that look alike are one label.

    The label is in Unicode NFC, without invisible characters, and has single spaces between its words. A number without
    a fraction has none in its label either: a column of whole numbers becomes one of floats where a cell is missing.

    Raises ValueError for a cell of another type than text, number or date.
    """
    if is_missing(cell):
        return None
    if isinstance(cell, bytes | dict | list | tuple):
        raise ValueError(f"holds a label of type {type(cell).__name__}, neither text nor a number")
    return visible_form(str(_whole(cell))) or None


def label_cells(cell: object) -> list[object]:
    """The cells of the single labels in a list or in text with `|` between the labels."""
    if isinstance(cell, list):
        return cell
    return [*cell.split(LABEL_SEPARATOR)] if isinstance(cell, str) else [cell]


def labels_of(cell: object) -> tuple[str, ...]:
    """The distinct labels, in order, of a list or of text with `|` between the labels. Raises ValueError."""
    return tuple(dict.fromkeys(label for each in label_cells(cell) if (label := label_of(each)) is not None))


def class_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The class names of each column that holds a ClassLabel, or a list of ClassLabel.

    Args:
        features: the description of the columns by Hugging Face's `datasets` (`Features.to_dict`).
    """
    kinds = {column: _element(feature) for column, feature in features.items()}
    classes = {column: kind.get("names") for column, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
    return {column: names for column, names in classes.items() if isinstance(names, list)}


def with_names(cell: object, names: Sequence[str]) -> object:
    """A cell with class names in place of class numbers; a number below 0 means no label.

    Raises ValueError for a number without a name.
    """
    if isinstance(cell, list):
        return [with_names(element, names) for element in cell]
    number = _whole(cell)
    if not isinstance(number, int):
        return cell
    if number < 0:
        return None
    if number >= len(names):
        raise ValueError(f"class {number} has no name: the names are of 0 to {len(names) - 1}")
    return names[number]


def _whole(cell: object) -> object:
    """The cell, but a whole number as an int, 1 for 1.0, and a decimal without zeros at its end."""
    if isinstance(cell, Decimal) and cell.is_finite():
        return int(cell) if cell == cell.to_integral_value() else cell.normalize()
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _element(feature: Any) -> Mapping[str, Any]:  # noqa: ANN401 - JSON
    """The feature itself, or the element of a list feature; `datasets` has written lists in two forms."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict) and "feature" in feature:
        return _element(feature["feature"])
    return feature if isinstance(feature, dict) else {}
