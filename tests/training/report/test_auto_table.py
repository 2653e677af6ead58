"""The table of the adapters that `mora: auto` compared."""

from __future__ import annotations

from typing import Any

from training.report.auto_table import auto_headings, auto_rows


def row(name: str, image: int, text: int, shares_trunk: bool, **more: Any) -> dict[str, Any]:
    facts = {"first_layers": {"image": image, "text": text}, "shares_trunk": shares_trunk, "frozen_share": image / 12}
    return {"name": name, "rank": 4, "trainable_parameters": 12345, "seconds": 9.6, **facts, **more}


def test_each_adapter_has_a_cell_for_each_heading() -> None:
    gain = {"log_loss_gain": 0.25, "standard_error": 0.05}
    auto = {
        "metric": "accuracy",
        "chosen": "b",
        "candidates": [
            row("a", 10, 10, True, score=0.5, log_loss=1.25),
            row("b", 0, 0, False, score=0.75, log_loss=1.0, **gain),
            row("c", 12, 0, False, score=0.75, log_loss=1.5, log_loss_gain=-0.5, standard_error=None),
            row("d", 0, 0, False, score=None, log_loss=None),
        ],
    }

    rows, own = auto_rows(auto), "embeddings only"

    assert auto_headings(auto)[4] == "Accuracy (%)"
    assert {len(cells) for cells in rows} == {len(auto_headings(auto))}
    assert rows == [
        ["a", "10 image, 10 text", "4", "12,345", "50.0", "1.2500", "-", "10", "83 %", "yes"],
        ["b (kept)", "0 image, 0 text", "4", "12,345", "75.0", "1.0000", "+0.2500 ± 0.0500", "10", "0 %", own],
        ["c", "12 image, 0 text", "4", "12,345", "75.0", "1.5000", "-0.5000", "10", "100 %", "no"],
        ["d", "0 image, 0 text", "4", "12,345", "-", "diverged", "-", "10", "0 %", own],
    ]  # fmt: skip
