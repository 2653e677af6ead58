"""What an AVIF file says of its decoding: the sizes of its coded pictures, and the file for Pillow.

The boxes are those of ISO/IEC 14496-12 and 23008-12. Damage raises ValueError, LookupError or struct.error.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from math import prod
from typing import TypeAlias, TypeVar

from model_store.items.av1 import picture_sizes

_Element = TypeVar("_Element")
_Range: TypeAlias = tuple[int, int]  # start and end in the file
_MAX_ELEMENTS = 10_000  # boxes in a box, items in a file and their parts: more than a picture has
_MAX_SHARED = 10  # times that a part of the file may belong to an item: the layers of a picture share parts
_METADATA = (b"Exif", b"mime")


def coded_pixels(data: bytes) -> list[int]:
    """The number of pixels of each coded picture: colour, alpha, thumbnails, or the tiles of a grid.

    The decoder makes these, whatever size the file gives for the whole picture.
    """
    parts: defaultdict[int, list[_Range]] = defaultdict(list)
    for item, part in _limited(_locations(data)):
        parts[item].append(part)
    coded = [parts[number] for kind, number, _ in _items(data) if kind == b"av01"]
    if sum(end - start for ranges in coded for start, end in ranges) > _MAX_SHARED * len(data):
        raise ValueError("the items are longer than the file")
    sizes = [picture_sizes(b"".join(data[start:end] for start, end in ranges)) for ranges in coded]
    if not sizes or not all(sizes):
        raise ValueError("a picture has no size")
    return [prod(size) for of_item in sizes for size in of_item]


def still_picture(data: bytes) -> bytes:
    """The file as that of its still picture, without EXIF and XMP. The length stays the same.

    Pillow would decode the track of an animation, and it fails on odd EXIF. AVIF turns a picture by a box of its own.
    """
    still = bytearray(data)
    still[8:12] = b"avif"  # an animation has another brand
    for kind, _, place in _items(data):
        if kind in _METADATA:
            still[place : place + 4] = b"skip"
    return bytes(still)


def _limited(elements: Iterable[_Element]) -> Iterator[_Element]:
    elements = iter(elements)
    yield from islice(elements, _MAX_ELEMENTS)
    if next(elements, None) is not None:
        raise ValueError("too many elements")


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The type of each box, and where its content starts and ends."""
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = start + size if size else end
        if not content <= stop <= end:
            raise ValueError("a box is cut short")
        yield kind, content, stop
        start = stop


def _child(data: bytes, kind: bytes, parent: _Range) -> _Range:
    """Where the content of the first box of a type starts and ends; empty if there is none."""
    boxes = _limited(_boxes(data, *parent))
    return next(((start, end) for name, start, end in boxes if name == kind), (parent[1], parent[1]))


def _meta(data: bytes) -> _Range:
    start, end = _child(data, b"meta", (0, len(data)))
    return start + 4, end  # after version and flags


def _items(data: bytes) -> list[tuple[bytes, int, int]]:
    """The type and number of each item, and where its type is written."""
    start, end = _child(data, b"iinf", _meta(data))
    items = []
    for _, entry, _ in _limited(_boxes(data, start + (8 if data[start] else 6), end)):
        place = entry + (8 if data[entry] > 2 else 6)  # after the number, by the version
        items.append((data[place + 2 : place + 6], int.from_bytes(data[entry + 4 : place]), place + 2))
    return items


def _locations(data: bytes) -> Iterator[tuple[int, _Range]]:
    """The number of an item and a part of the file that holds it, for each part."""
    meta = _meta(data)
    start, end = _child(data, b"iloc", meta)
    sources = {0: (0, len(data)), 1: _child(data, b"idat", meta)}
    version, place = data[start], start + 4

    def number(size: int) -> int:
        nonlocal place
        place += size
        if place > end:
            raise ValueError("the list of items is cut short")
        return int.from_bytes(data[place - size : place])

    sizes = number(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    number_bytes = 4 if version > 1 else 2
    for _ in _limited(range(number(number_bytes))):
        item = number(number_bytes)
        first, last = sources[number(2) & 15 if version else 0]
        number(2)  # the file: this one
        first += number(base_bytes)
        for _ in range(number(2)):
            number(index_bytes)
            begin, length = first + number(offset_bytes), number(length_bytes)
            yield item, (begin, begin + length if length else last)
