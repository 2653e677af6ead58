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
}
_LEAST_BYTES = 8  # of a file; fewer bytes may begin like one by chance
_PATTERNS = {
    re.compile(rb"BM.{4}\0{4}", re.DOTALL): "a BMP picture",
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
