"""Pictures without the parts that no pixel depends on: texts, colour profiles, thumbnails, EXIF.

Pillow unpacks some of these parts and fails on odd ones. None is used here, except the orientation in EXIF or XMP.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from typing import TypeAlias

from model_store.items import avif, gif
from model_store.items.formats import PictureFormat

_MAX_PARTS = 100_000  # more than any file has; a file of more would keep a core busy for long
Metadata: TypeAlias = dict[str, bytes]  # `exif` and `xmp`, as in the `info` of Pillow's images
_PNG_XMP = b"XML:com.adobe.xmp\0\0\0\0\0"  # its flags say that the text is not compressed
_PNG_LAYOUT = slice(24, 26)  # the bits a sample and the colour type: 0 is grey, 2 is RGB
_PNG_SCALES = {b"\x02\x00": 85, b"\x04\x00": 17, b"\x10\x02": 1 / 256}  # of Pillow, to 8 bits
_JPEG_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_JPEG_DROPPED = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP1 to APP13, APP15, comment; APP0 and APP14 tell the colours
_JPEG_ENDS = {0x00, 0x01, *range(0xD0, 0xDB)}  # markers without a length, and the start of the pixels
_JPEG_EXIF, _JPEG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_ORIENTATION, _WHOLE_NUMBERS = 0x0112, {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # by EXIF's type code
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def without_metadata(data: bytes, file_format: PictureFormat) -> tuple[bytes, Metadata]:
    """The file with the parts that its pixels need, and the EXIF and XMP that were removed.

    A damaged PNG or JPEG file keeps everything from the damage on. Raises ValueError for a file of too many parts, and
    ValueError, LookupError or struct.error for a damaged AVIF or GIF file.
    """
    match file_format:
        case PictureFormat.PNG:
            return _png(data)
        case PictureFormat.JPEG:
            return _jpeg(data)
        case PictureFormat.AVIF:
            return avif.still_picture(data), {}
        case PictureFormat.GIF:
            return gif.still_picture(data), {}
        case PictureFormat.WEBP:  # Pillow only copies its metadata
            return data, {}


def orientation_of(metadata: Mapping[str, object]) -> int:
    """The orientation in `exif`, else in `xmp`, 1 to 8; 1, which is upright, if it is absent or odd."""
    exif, xmp = metadata.get("exif"), metadata.get("xmp")
    orientation = _exif_orientation(exif.removeprefix(_JPEG_EXIF)) if isinstance(exif, bytes) else None
    if orientation is None and isinstance(xmp, bytes) and (match := _XMP_ORIENTATION.search(xmp)):
        orientation = int(match[1])
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """The number of the orientation tag in a TIFF header's first directory; None if it is absent or unreadable."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (tags,) = struct.unpack_from(f"{order}H", exif, directory)
        for start in range(directory + 2, directory + 2 + 12 * tags, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, start)
            if tag == _ORIENTATION and count == 1:
                return int(struct.unpack_from(f"{order}{_WHOLE_NUMBERS[kind]}", exif, start + 8)[0])
    except (struct.error, KeyError):
        pass
    return None


def _png(data: bytes) -> tuple[bytes, Metadata]:
    kept, metadata, start = [data[:8]], Metadata(), 8
    for _ in range(_MAX_PARTS):
        if start + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + length + 12
        if kind == b"IEND" or end > len(data):
            break
        if kind == b"tRNS":
            kept.append(_transparent_level(data[start:end], data[_PNG_LAYOUT]))
        elif not (kind.isalpha() and kind[:1].islower()):  # small letter: may be left out
            kept.append(data[start:end])
        elif kind == b"eXIf":
            metadata["exif"] = data[start + 8 : end - 4]
        elif kind == b"iTXt" and data.startswith(_PNG_XMP, start + 8):
            metadata["xmp"] = data[start + 8 + len(_PNG_XMP) : end - 4]
        start = end
    else:
        raise ValueError("too many chunks")
    return b"".join([*kept, data[start:]]), metadata


def _transparent_level(chunk: bytes, layout: bytes) -> bytes:
    """A PNG's tRNS chunk whose grey or colour is scaled as Pillow scales the pixels, but not this chunk.

    Of 16 bits a sample, Pillow keeps the upper 8 in a colour, and all in a grey.

    Args:
        layout: the bits a sample and the colour type.
    """
    content = chunk[8:-4]
    scale = _PNG_SCALES.get(layout)
    if scale is None or len(content) != (6 if layout[1] else 2):
        return chunk
    samples = struct.unpack(f">{len(content) // 2}H", content)
    levels = [int(sample % 2 ** layout[0] * scale) for sample in samples]
    body = b"tRNS" + struct.pack(f">{len(levels)}H", *levels)
    return chunk[:4] + body + struct.pack(">I", zlib.crc32(body))


def _jpeg(data: bytes) -> tuple[bytes, Metadata]:
    kept, metadata, start = [data[:2]], Metadata(), 2
    for _ in range(_MAX_PARTS):
        marker = _JPEG_MARKER.match(data, start)
        if marker is None:
            break
        start, content = marker.end() - 2, marker.end() + 2  # without the padding before it
        end = marker.end() + int.from_bytes(data[marker.end() : content])
        if marker[1][0] in _JPEG_ENDS or not content <= end <= len(data):
            break
        if marker[1][0] not in _JPEG_DROPPED:
            kept.append(data[start:end])
        elif data.startswith(_JPEG_EXIF, content):
            metadata["exif"] = metadata.get("exif", b"") + data[content + len(_JPEG_EXIF) : end]
        elif data.startswith(_JPEG_XMP, content):
            metadata["xmp"] = data[content + len(_JPEG_XMP) : end]
        start = end
    else:
        raise ValueError("too many segments")
    return b"".join([*kept, data[start:]]), metadata
