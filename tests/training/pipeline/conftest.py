"""What the tests of whole trainings share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots without content: drawing them takes longer than these trainings. tests/training/report draws them."""
    monkeypatch.setattr("training.report.plots._svg", lambda _, title: f'<svg role="img"><title>{title}</title></svg>')
