"""Whether a trained model's loss is clearly lower than that of its start."""

from __future__ import annotations

import pytest
import torch

from training.learning.gain import paired_gain


@pytest.mark.parametrize(
    ("before", "after", "is_clear"),
    [
        ([2.0, 3.0, 4.0], [1.0, 2.1, 2.9], True),
        ([2.0, 3.0, 4.0], [2.0005, 2.9995, 3.9995], False),  # below 0.001
        ([2.0, 3.0, 4.0], [0.0, 3.5, 4.5], False),  # within two standard errors
        ([2.0, 3.0, 4.0], [3.0, 4.1, 5.0], False),  # worse
        ([2.0], [1.0], False),  # one query shows nothing
    ],
)
def test_a_gain_counts_if_it_is_clear(before: list[float], after: list[float], is_clear: bool) -> None:
    assert paired_gain(torch.tensor(before), torch.tensor(after)).is_clear is is_clear
