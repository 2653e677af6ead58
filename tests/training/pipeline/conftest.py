"""What the tests of whole trainings share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots without content: drawing them takes longer than these trainings. tests/training/report draws them."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: file.write('<svg id="plot"></svg>'))
