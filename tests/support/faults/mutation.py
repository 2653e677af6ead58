"""Damage done to bytes: the same for the same dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

MOST_BYTES = 20_000  # what comes out may be as long
_ODD = (
    b"1e999",
    b"-1",
    b"NaN",
    b"-Infinity",
    b"9" * 400,
    b"18446744073709551616",
    b"null",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"\\ud800"',
    b"[" * 50,
    b'{"a":' * 40,
    b"\r\n",
    b"\r\n\r\n",
    b"--x",
    b"%00",
    b"../" * 9,
    b"\x7f\xff\xff\xff",
    b"data:image/png;base64,",
)
Damage = Callable[[bytes, Random, Sequence[bytes]], bytes]


def dice(*key: object) -> Random:
    """Random numbers that are the same for the same key."""
    return Random("/".join(map(str, key)))  # noqa: S311


def mutate(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """`data` damaged in one to four ways; `others` is what it may be spliced with."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_DAMAGES)(data, random, others)[:MOST_BYTES]
    return data


def _slice(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 1024)))


def _flip(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if flipped:
            flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _overwrite(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _cut_short(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _remove(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random)
    return data[:end] + data[start:end] * random.choice((1, 1, 3, 100)) + data[end:]


def _insert(data: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    start, _end = _slice(data, random)
    return data[:start] + random.choice((random.choice(_ODD), random.randbytes(8))) + data[start:]


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


_DAMAGES: Sequence[Damage] = (_flip, _flip, _overwrite, _cut_short, _remove, _repeat, _insert, _splice)
