"""The formats of pictures that are read. A format is recognised by the first bytes of a file, never by its name."""

from __future__ import annotations

from enum import StrEnum

HEAD_BYTES = 256  # of a file, enough to recognise its format
_AVIF_BRANDS = {b"avif", b"avis"}


class PictureFormat(StrEnum):
    """A format; the value is its name for people, the member's name is Pillow's."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WebP"
    AVIF = "AVIF"
    GIF = "GIF"

    @property
    def media_type(self) -> str:
        """Such as image/png."""
        return f"image/{self.name.lower()}"


FORMATS = ", ".join([*PictureFormat][:-1]) + f" or {[*PictureFormat][-1]}"


def format_of(head: bytes) -> PictureFormat | None:
    """The format of a file that begins with these bytes; None if it is none of FORMATS."""
    if head.startswith(b"\xff\xd8\xff"):
        return PictureFormat.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PictureFormat.PNG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return PictureFormat.WEBP
    if head[4:8] == b"ftyp" and _AVIF_BRANDS & _brands(head):
        return PictureFormat.AVIF
    if head.startswith((b"GIF87a", b"GIF89a")):
        return PictureFormat.GIF
    return None


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO media file: HEIC and MP4 have the same box, with other brands."""
    end = min(int.from_bytes(head[:4]), HEAD_BYTES)
    return {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}
