"""The sizes in the sequence headers of AV1 streams."""

from __future__ import annotations

import pytest

from model_store.items.av1 import picture_sizes


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers of so many bits each, filled with zeros to whole bytes."""
    digits = "".join(f"{number:0{count}b}" for number, count in fields if count)
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8)


def size(width: int, height: int) -> list[tuple[int, int]]:
    return [(15, 4), (15, 4), (width - 1, 16), (height - 1, 16)]


def unit(content: bytes, kind: int = 1, extended: bool = False) -> bytes:
    """A unit with its size; 1 is a sequence header."""
    return bytes([kind << 3 | extended << 2 | 2, *[0] * extended, len(content)]) + content


REDUCED = [(0, 3), (1, 1), (1, 1), (8, 5)]
PLAIN = [(0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (4, 5)]
TIMING = [(1, 1), (1, 32), (25, 32)]
INTERVALS = [(1, 1), (0b00101, 5)]  # equal intervals of four ticks, as a number of variable length
DECODER_MODEL = [(1, 1), (9, 5), (1, 32), (9, 5), (9, 5)]
MODELLED = [(0, 3), (0, 1), (0, 1), *TIMING, *INTERVALS, *DECODER_MODEL, (1, 1), (1, 5)]
MODELLED += [
    (0, 12),
    (9, 5),
    (1, 1),
    (1, 1),
    (7, 10),
    (7, 10),
    (0, 1),
    (1, 1),
    (3, 4),
]  # a level with a tier and delays
MODELLED += [(1, 12), (4, 5), (0, 1), (0, 1)]
TIMED = [(0, 3), (0, 1), (0, 1), *TIMING, (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (8, 5), (1, 1)]


@pytest.mark.parametrize("fields", [REDUCED, PLAIN, MODELLED, TIMED])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 427), (65_536, 65_536)])
def test_the_size_is_read_behind_every_kind_of_header(fields, width, height):
    assert picture_sizes(unit(bits(*fields, *size(width, height)))) == [(width, height)]


def test_every_sequence_header_of_a_stream_is_read():
    headers = [unit(bits(*REDUCED, *size(edge, edge)), extended=edge == 5) for edge in (4, 5)]
    long = unit(b"", kind=6)[:1] + b"\xac\x02" + bytes(300)  # its size takes two bytes

    assert picture_sizes(unit(b"", kind=2) + headers[0] + long + headers[1]) == [(4, 4), (5, 5)]
    assert picture_sizes(b"\x08" + bits(*REDUCED, *size(6, 7))) == [(6, 7)]  # without a size: up to the end
    assert picture_sizes(unit(b"pixels", kind=6)) == picture_sizes(b"") == []


@pytest.mark.parametrize(
    "stream", [unit(bits(*REDUCED)), unit(b""), b"\x0a", b"\x0a" + b"\xff" * 9, unit(b"", kind=2) * 20_000]
)
def test_a_damaged_stream_raises_an_error(stream):
    with pytest.raises((ValueError, IndexError)):
        picture_sizes(stream)
