"""Texts that are longer than the backbone reads: how many, and which rows."""

from __future__ import annotations

from training.data.splits import TaskData
from training.errors import first_few
from training.model.input_preview import InputPreview

_MAX_LISTED = 5


def cut_text_notes(data: TaskData, preview: InputPreview) -> list[str]:
    """A note for each split with texts of which the model reads the beginning only."""
    notes = []
    for name, split in data.splits().items():
        items = [item for item in split.sides if item.text is not None]
        lengths = preview.token_counts([item.text or "" for item in items])
        cut = [item for item, length in zip(items, lengths, strict=True) if length > preview.max_length]
        if cut:
            rows = first_few([str(item.row) for item in cut], _MAX_LISTED)
            share = f"{len(cut):,} of {len(items):,} ({len(cut) / len(items):.0%}), rows {rows}"
            limit = f"{preview.max_length} tokens that the backbone reads"
            notes.append(f"texts of {name} that are cut at the {limit}: {share}; put the words that decide first")
    return notes
