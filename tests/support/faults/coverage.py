"""What the coverage-guided fuzzers share. They need atheris, the extra `fuzz`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import atheris

PLANTED = "PLANTED"  # environment variable: a code of refusal that is to count as a fault, to see that it is found


def foresee(error: Exception, code: str) -> None:
    """A refusal is an answer; raises it where a test planted a fault in its place."""
    if code == os.environ.get(PLANTED):
        raise error


def fuzz(one: Callable[[bytes], None]) -> None:
    """Give `one` inputs until time or runs are up; libFuzzer's flags are on the command line."""
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
