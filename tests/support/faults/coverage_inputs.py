"""What each coverage-guided fuzzer starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.faults import pictures
from tests.support.faults.malformed import SEEDS


def _bodies(of: bytes) -> list[bytes]:
    return [seed.body for seed in SEEDS if any(of in header for header in seed.headers)]


INPUTS: Mapping[str, Callable[[], list[bytes]]] = {
    "json": lambda: _bodies(b"json"),
    "multipart": lambda: [b"; boundary=x\n" + body for body in _bodies(b"multipart")],
    "image": lambda: pictures.seeds(),
}
