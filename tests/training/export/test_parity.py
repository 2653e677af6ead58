"""The check of the graphs' logits names divergence as such, and a difference of the runtimes as such."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from model_store import Pattern
from training.config import ImportedConfig, TaskConfig
from training.errors import DivergedError, ExportError, TrainingError
from training.export.parity import Parity

Make = Callable[..., TaskConfig]
NAN, INFINITE = float("nan"), float("inf")


def parity(pattern: Pattern, error: float, largest: float) -> Parity:
    """This error and this logit of one pattern, and small ones of the others."""
    return Parity(dict.fromkeys(Pattern, 1e-6) | {pattern: error}, dict.fromkeys(Pattern, 20.0) | {pattern: largest})


@pytest.mark.parametrize("pattern", Pattern)
@pytest.mark.parametrize(
    ("error", "largest", "expected"),
    [
        (NAN, NAN, DivergedError),
        (NAN, INFINITE, DivergedError),
        (0.0, INFINITE, DivergedError),
        (1e2, 1e7, DivergedError),
        (2e-4, 20.0, ExportError),
        (NAN, 20.0, ExportError),
        (INFINITE, 20.0, ExportError),
    ],
)
def test_a_fault_of_any_pattern_is_named(
    make_config: Make, pattern: Pattern, error: float, largest: float, expected: type[TrainingError]
) -> None:
    with pytest.raises(TrainingError, match=f" of {pattern}[ ,].*nothing is published") as raised:
        parity(pattern, error, largest).check(make_config())

    assert type(raised.value) is expected
    assert ("diverged" in str(raised.value)) is (expected is DivergedError)
    assert ("constraints.txt" in str(raised.value)) is (expected is ExportError)


def test_small_differences_pass_also_of_large_logits(make_config: Make) -> None:
    parity(Pattern.TEXT, 1e-5, 20.0).check(make_config())
    parity(Pattern.TEXT, 1e-5, 5e3).check(make_config())


def test_an_imported_head_is_not_blamed_on_the_learning_rate(make_config: Make) -> None:
    imported = ImportedConfig(kind="peft", sha256="", head="taken", first_image_layer=1, first_text_layer=0)

    with pytest.raises(DivergedError, match="import an earlier checkpoint"):
        parity(Pattern.BOTH, NAN, NAN).check(make_config(imported=imported.model_dump()))
