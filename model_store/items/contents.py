"""The kind of a file that is no picture of ours, by its content, for messages: such a file is never read."""

from __future__ import annotations

import codecs
import re

TEXT = "text"
_BEGINNINGS = {
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"\0\0\1\0": "an icon (ICO)",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"8BPS": "a Photoshop file",
    b"%PDF-": "a PDF",
    b"%!PS": "a PostScript file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\xfd7zXZ\0": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PAR1": "a parquet file",
    b"ARROW1\0\0": "an Arrow file",
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"SQLite format 3\0": "an SQLite database",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Office file in the format before 2007",
}
_LEAST_BYTES = 8  # of a file; fewer bytes may begin like one by chance
_PATTERNS = {
    re.compile(rb"BM.{4}\0{4}", re.DOTALL): "a BMP picture",
    re.compile(rb"BZh[1-9]1AY&SY"): "a bzip2 archive",
    re.compile(rb".{257}ustar", re.DOTALL): "a tar archive",
    re.compile(rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL): "a HEIC picture",
}
_SVG = re.compile(rb"<(?:[a-z]+:)?svg[\s>]", re.IGNORECASE)
_TEXT_BYTES = 4096


def describe_content(data: bytes) -> str | None:
    """The kind of a file with its article, such as "a PDF"; TEXT for other text; None if unknown or too short."""
    if len(data) < _LEAST_BYTES:
        return None
    kinds = [kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)]
    kinds += [kind for pattern, kind in _PATTERNS.items() if pattern.match(data)]
    if kinds:
        return kinds[0]
    start = data[:_TEXT_BYTES]
    if not _is_text(start):
        return None
    return "an SVG drawing" if _SVG.search(start) else TEXT


def _is_text(start: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters; the last character may be cut off."""
    text = start.removeprefix(codecs.BOM_UTF8).decode(errors="replace").rstrip("\ufffd")
    is_legible = all(character.isprintable() or character.isspace() for character in text)
    return bool(text) and is_legible and "\ufffd" not in text
