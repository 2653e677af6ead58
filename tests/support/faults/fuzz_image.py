"""Coverage-guided fuzzing of pictures: `python -m tests.support.faults.fuzz_image -max_total_time=120`."""

from __future__ import annotations

import warnings

import atheris

with atheris.instrument_imports(include=["model_store.items", "PIL"]):
    from model_store.items.pictures import PictureError, pixel_values

from model_store import ImagePreprocessing
from tests.support.faults.coverage import foresee, fuzz

MOST_PIXELS = 1_000_000
PREPROCESSING = ImagePreprocessing(
    shortest_edge=32, crop=(32, 32), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)


def one(data: bytes) -> None:
    """One file from its bytes to `pixel_values`."""
    try:
        values = pixel_values(data, PREPROCESSING, MOST_PIXELS)
    except PictureError as error:
        foresee(error, error.problem)
    else:
        assert values.shape == (3, 32, 32)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Pillow warns of damage
    fuzz(one)
