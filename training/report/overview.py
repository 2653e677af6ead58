"""The data of a task: counts, and a sheet of training examples as the model sees them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid

from model_store import Pattern, Problem
from model_store.messages import printable
from training.config import TaskConfig
from training.data.arrow_files import MASKS, masks_beside
from training.data.copies import Repeats, distinct_targets, find_repeats
from training.data.missing import PATTERN_OF, Lacks, Table, masked, natural_table
from training.data.splits import TaskData
from training.errors import naming_row
from training.model.input_preview import InputPreview

_MAX_LABELS = 30
_EXAMPLES, _COLUMNS = 24, 6
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # DejaVu has most alphabets; Pillow's font has only Latin
_LINE, _TEXT_LINES, _LABEL_LINES = 15, 5, 2  # height of a line in pixels; line limits of a text and of labels
_MARGIN, _NARROWEST = 8, 160  # pixels


def print_overview(config: TaskConfig, data: TaskData, tables: dict[str, Table], console: Console) -> None:
    """Print the items by pattern and by label, repeated items, notes, and the authors' mask files beside the data."""
    names = ("items", "both", "image only", "text only")
    is_retrieval = config.problem is Problem.RETRIEVAL
    title = f"{'queries' if is_retrieval else 'items'} by modality"
    patterns = Grid("split", "", *(Column(name, justify="right") for name in names), title=title)
    for name, split in data.splits().items():
        natural = natural_table(split)
        views = {"": natural}
        if (tables[name] != natural).any():
            views = {"in the data": natural, "after `missing`": tables[name]}
        for number, (view, table) in enumerate(views.items()):
            counts = {PATTERN_OF[lacks]: int(np.sum(table == lacks)) for lacks in Lacks}
            cells = (len(table), counts[Pattern.BOTH], counts[Pattern.IMAGE], counts[Pattern.TEXT])
            patterns.add_row("" if number else name, view, *(f"{count:,}" for count in cells))
    repeats = find_repeats({name: split.items for name, split in data.splits().items()})
    content = _targets(data) if is_retrieval else _by_label(data)
    console.print(patterns, content, *([_by_repeat(repeats)] if repeats else []), sep="\n")
    for note in data.notes:
        console.print(f"note: {printable(note)}", style="yellow", markup=False, soft_wrap=True)
    masks = masks_beside(Path(config.data.root)) if config.data.root else []
    if masks:
        available = f"missing tables in {config.data.root}/{MASKS}: {', '.join(path.name for path in masks)}"
        console.print(f"{available}; to use one, name its path as missing.train.table", markup=False, soft_wrap=True)


def _targets(data: TaskData) -> Grid:
    """The distinct targets of each split, which its queries are ranked over."""
    names = ("targets", "both", "image only", "text only")
    grid = Grid("split", *(Column(name, justify="right") for name in names), title="targets by modality")
    for name, split in data.splits().items():
        targets = distinct_targets(split.items)
        table = natural_table(replace(split, items=targets))
        counts = (int(np.sum(table == lacks)) for lacks in (Lacks.NOTHING, Lacks.TEXT, Lacks.IMAGE))
        grid.add_row(name, *(f"{count:,}" for count in (len(targets), *counts)))
    return grid


def _by_label(data: TaskData) -> Grid:
    splits = data.splits()
    grid = Grid("label", *(Column(name, justify="right") for name in splits), title="items by label")
    counts = {name: Counter(label for item in split.items for label in item.labels) for name, split in splits.items()}
    ordered = sorted(data.labels, key=lambda label: (-counts["train"][label], label))
    for label in ordered[:_MAX_LABELS]:
        grid.add_row(escape(label), *(f"{counts[name][label]:,}" for name in splits))
    if len(ordered) > _MAX_LABELS:
        rest = ordered[_MAX_LABELS:]
        grid.add_row(f"and {len(rest)} more", *(f"{sum(counts[name][label] for label in rest):,}" for name in splits))
    none = [sum(not item.labels for item in split.items) for split in splits.values()]
    if any(none):
        grid.add_row("(no label)", *(f"{count:,}" for count in none))
    return grid


def _by_repeat(repeats: Sequence[Repeats]) -> Grid:
    numbers = (Column(name, justify="right") for name in ("groups", "rows"))
    grid = Grid("repeated", "in", *numbers, "for example", title="pictures and items that repeat")
    for repeat in repeats:
        counts = (f"{len(repeat.groups):,}", f"{repeat.rows:,}")
        grid.add_row(repeat.kind, " and ".join(repeat.splits), *counts, escape(repeat.shown()))
    return grid


def contact_sheet(data: TaskData, table: Table, preview: InputPreview) -> Image.Image:
    """A sheet of evenly spaced training examples, as the model sees them under the missing table.

    The picture has the model's size, and is white where the image is missing. The text is decoded from its tokens. A
    query of a retrieval task has the text of its target below it.
    """
    items, cells = data.train.items, []
    for number in np.unique(np.linspace(0, len(items) - 1, _EXAMPLES).round().astype(int)):
        item = masked(items[number], table[number])
        with naming_row(item.row):
            picture = preview.picture(item.image)
        answer = ", ".join(item.labels) if item.target is None else item.target.text or "(a picture)"
        cells.append(_cell(picture, preview.words(item.text), answer))
    width, height = cells[0].size
    sheet = Image.new("RGB", (_COLUMNS * width + _MARGIN, -(-len(cells) // _COLUMNS) * height), "gainsboro")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % _COLUMNS * width, index // _COLUMNS * height))
    return sheet


def _cell(picture: Image.Image, text: str, labels: str) -> Image.Image:
    width = max(picture.width, _NARROWEST)
    lines = _LINE * (_TEXT_LINES + _LABEL_LINES) + _MARGIN
    cell = Image.new("RGB", (width + _MARGIN, picture.height + lines + 2 * _MARGIN), "gainsboro")
    cell.paste(picture, (_MARGIN, _MARGIN))
    draw, top = ImageDraw.Draw(cell), picture.height + 2 * _MARGIN
    for words, absent, font, most in (
        (text, "(no text)", "DejaVuSans.ttf", _TEXT_LINES),
        (labels, "(no label)", "DejaVuSans-Bold.ttf", _LABEL_LINES),
    ):
        typeface = ImageFont.truetype(_FONTS / font, 11)
        columns = int(width / typeface.getlength("n"))
        shown = textwrap.wrap(words, columns, max_lines=most, placeholder=" \u2026") or [absent]
        draw.text((_MARGIN, top), "\n".join(shown), "black" if words else "grey", typeface, spacing=2)
        top += _LINE * most
    return cell
