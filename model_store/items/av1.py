"""The sizes in an AV1 stream, from its sequence headers (AV1 specification, sections 5.3 to 5.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

_SEQUENCE_HEADER = 1  # the type of a unit
_MAX_UNITS = 10_000  # more than a picture has
_MAX_HEADER_BYTES = 512  # more than a sequence header has


def picture_sizes(stream: bytes) -> list[tuple[int, int]]:
    """The largest width and height of the pictures after each sequence header. Raises ValueError or IndexError."""
    headers = (unit for kind, unit in _units(stream) if kind == _SEQUENCE_HEADER)
    return [_size(_bit_reader(header[:_MAX_HEADER_BYTES])) for header in headers]


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and content of each unit (OBU)."""
    start = 0
    for _ in range(_MAX_UNITS):
        if start >= len(stream):
            return
        header = stream[start]
        start += 2 if header & 4 else 1  # with an extension
        size = len(stream) - start
        if header & 2:
            size, start = _leb128(stream, start)
        yield header >> 3 & 15, stream[start : start + size]
        start += size
    raise ValueError("too many units")


def _leb128(stream: bytes, start: int) -> tuple[int, int]:
    """A number of at most eight bytes, with seven bits in each, and where it ends."""
    number = 0
    for index in range(8):
        byte = stream[start + index]
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, start + index + 1
    raise ValueError("a size is too long")


def _bit_reader(data: bytes) -> Callable[[int], int]:
    """A function that reads the next bits as a number."""
    bits = iter("".join(f"{byte:08b}" for byte in data))

    def read(count: int) -> int:
        digits = "".join(islice(bits, count))
        if len(digits) < count:
            raise ValueError("a sequence header is cut short")
        return int(digits or "0", 2)

    return read


def _size(read: Callable[[int], int]) -> tuple[int, int]:
    """The width and height in a sequence header."""
    read(4)  # profile, still picture
    if read(1):  # reduced header
        read(5)
    else:
        _skip_timing_and_levels(read)
    width_bits, height_bits = read(4) + 1, read(4) + 1
    return read(width_bits) + 1, read(height_bits) + 1


def _skip_timing_and_levels(read: Callable[[int], int]) -> None:
    delay_bits = 0
    if read(1):  # timing
        read(64)
        if read(1):  # equal intervals
            zeros = 0
            while not read(1):
                zeros += 1
            read(zeros)
        if read(1):  # decoder model
            delay_bits = read(5) + 1
            read(42)
    has_display_delay = read(1)
    for _ in range(read(5) + 1):  # operating points
        read(12)
        if read(5) > 7:
            read(1)  # tier
        if delay_bits and read(1):
            read(2 * delay_bits + 1)
        if has_display_delay and read(1):
            read(4)
