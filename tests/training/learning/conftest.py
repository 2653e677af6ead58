"""What the tests of learning share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_drawing(no_drawing: None) -> None:
    """Reports of trainings are not looked at here."""
