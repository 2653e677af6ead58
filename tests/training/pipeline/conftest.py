"""What the tests of whole trainings share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_drawing(no_drawing: None) -> None:
    """Drawing takes as long as these trainings. tests/training/report draws."""
