"""Why a picture cannot be used, and the number of pixels that it may have."""

from __future__ import annotations

from enum import StrEnum

MAX_PIXELS = 50_000_000  # of one picture, before and after it is resized


class PictureProblem(StrEnum):
    """What is wrong with a picture."""

    FORMAT = "format"  # neither JPEG, PNG nor WebP
    PIXELS = "pixels"  # more than the limit
    UNDECODABLE = "undecodable"  # damaged or cut short
    MEMORY = "memory"  # decoding it takes more than there is


class PictureError(Exception):
    """A picture that cannot be used; the message names the cause and the cure, and never repeats the input."""

    def __init__(self, problem: PictureProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem
