"""Pictures whose metadata is odd or huge, and whose pixels are in order."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image

SHORT, LONG, ASCII, RATIONAL, DOUBLE, UNDEFINED = 3, 4, 2, 5, 12, 7  # types of EXIF
ORIENTATION, X_RESOLUTION, UNIT, MAKER = 0x0112, 0x011A, 0x0128, 0x010F  # tags
PICTURE = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
_PNG_START = 8 + 25  # signature and IHDR
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")


def encoded(file_format: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    """The picture in a format, by default without losses where there are such."""
    file = BytesIO()
    picture.save(file, file_format, **({"lossless": True} if file_format == "WEBP" else {}) | options)
    return file.getvalue()


def tiff(*tags: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """An EXIF block: tag, type, count, and the value, which has its place behind the tags if it is long."""
    start = 8 + 2 + 12 * len(tags) + 4
    body, values = struct.pack(f"{order}H", len(tags)), b""
    for tag, kind, count, value in sorted(tags):
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", start + len(values))
        values += value if len(value) > 4 else b""
        body += struct.pack(f"{order}HHI", tag, kind, count) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8) + body + bytes(4) + values


ODD_EXIF = {
    "orientation 0": tiff((ORIENTATION, SHORT, 1, b"\0\0")),
    "orientation 9": tiff((ORIENTATION, SHORT, 1, b"\x09\0")),
    "orientation of text": tiff((ORIENTATION, ASCII, 2, b"6\0")),
    "orientation of two numbers": tiff((ORIENTATION, SHORT, 2, b"\x06\0\x01\0")),
    "orientation of no number": tiff((ORIENTATION, SHORT, 0, b"\x06\0")),
    "orientation divided by zero": tiff((ORIENTATION, RATIONAL, 1, struct.pack("<II", 6, 0))),
    "orientation that is no number": tiff((ORIENTATION, DOUBLE, 1, struct.pack("<d", float("nan")))),
    "huge orientation": tiff((ORIENTATION, LONG, 1, b"\xff\xff\xff\xff")),
    "orientation of bytes": tiff((ORIENTATION, UNDEFINED, 1, b"\x06")),
    "resolution divided by zero": tiff((X_RESOLUTION, RATIONAL, 1, bytes(8)), (UNIT, SHORT, 1, b"\x02\0")),
    "huge resolution": tiff((X_RESOLUTION, DOUBLE, 1, struct.pack("<d", 1e308)), (UNIT, SHORT, 1, b"\x03\0")),
    "no resolution": tiff((X_RESOLUTION, RATIONAL, 0, b""), (UNIT, SHORT, 1, b"\x02\0")),
    "values cut off": tiff((MAKER, ASCII, 100, b"x" * 100))[:-60],
    "tags cut off": tiff((MAKER, ASCII, 100, b"x" * 100))[:20],
    "header cut off": tiff((MAKER, ASCII, 100, b"x" * 100))[:5],
    "offset beyond the end": b"II*\0\xff\xff\xff\xff",
    "no EXIF at all": b"no EXIF at all",
    "nothing": b"",
}


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    """The picture as a PNG with chunks before its pixels."""
    data = encoded("PNG")
    return data[:_PNG_START] + b"".join(chunks) + data[_PNG_START:]


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    """The picture as a JPEG with segments before all others."""
    data = encoded("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def webp_with(kind: bytes, content: bytes) -> bytes:
    """The picture as a WebP with a chunk behind its pixels."""
    exif = Image.Exif()
    exif[MAKER] = "a"
    data = encoded("WEBP", exif=exif)  # for the header that announces more chunks
    data += kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(data) - 8) + data[8:]


def gif_blocks(label: int, content: bytes, size: int = 255) -> bytes:
    """An extension of a GIF file, in blocks of a size."""
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    return b"!" + bytes([label]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif_with(*extensions: bytes) -> bytes:
    """The picture as a GIF with extensions before its frame."""
    data = encoded("GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return data[:start] + b"".join(extensions) + data[start:]


def saying(data: bytes, width: int, height: int) -> bytes:
    """An AVIF file with another size in its header."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


def with_exif(file_format: str, exif: bytes) -> bytes:
    """The picture with an EXIF block, which need not be valid."""
    if file_format == "PNG":
        return png_with(chunk(b"eXIf", exif))
    if file_format == "JPEG":
        return jpeg_with(segment(0xE1, b"Exif\0\0" + exif))
    if file_format == "WEBP":
        return encoded("WEBP", exif=b"Exif\0\0" + exif)
    valid = tiff((MAKER, ASCII, 9 + len(exif), b"x" * (9 + len(exif))))  # Pillow reads the block that it writes
    data = encoded("AVIF", exif=b"Exif\0\0" + valid)
    return data.replace(valid, exif.ljust(len(valid), b"\0"))


def with_odd_exif() -> dict[str, bytes]:
    """The picture in each format with each of ODD_EXIF."""
    return {f"{kind} with {name}": with_exif(kind, exif) for name, exif in ODD_EXIF.items() for kind in _FORMATS}


def with_large_metadata() -> dict[str, bytes]:
    """The picture with metadata of several megabytes, or which unpacks to that, or which breaks the rules."""
    large, packed = b"x" * 3_000_000, zlib.compress(bytes(30_000_000), 9)
    profile = encoded("JPEG", icc_profile=large)
    adobe = b"Photoshop 3.0\0" + b"8BIM\x03\xed"
    return {
        "PNG with a packed text": png_with(chunk(b"zTXt", b"Comment\0\0" + packed)),
        "PNG with a packed international text": png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed)),
        "PNG with a packed XMP": png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)),
        "PNG with a long text": png_with(chunk(b"tEXt", b"Comment\0" + large)),
        "PNG with a hundred texts": png_with(*[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(999_999)))] * 100),
        "PNG with a packed profile": png_with(chunk(b"iCCP", b"profile\0\0" + packed)),
        "PNG with a profile in an unknown packing": png_with(chunk(b"iCCP", b"profile\0\7" + packed)),
        "PNG with a text of a damaged checksum": png_with(chunk(b"tEXt", b"Comment\0red")[:-4] + b"sum?"),
        "PNG with a text called transparency": png_with(chunk(b"tEXt", b"transparency\0red")),
        "PNG with a text called bbox": png_with(chunk(b"tEXt", b"bbox\0red")),
        "PNG with a damaged animation": png_with(chunk(b"acTL", bytes(8)), chunk(b"fcTL", b"\0\0\0\x09" + bytes(22))),
        "JPEG with a large profile": profile,
        "JPEG with a damaged profile": jpeg_with(segment(0xE2, b"ICC_PROFILE\0")),
        "JPEG with 200 comments": jpeg_with(*[segment(0xFE, b"x" * 65_000)] * 200),
        "JPEG with long padding": jpeg_with(b"\xff" * 3_000_000),
        "JPEG with long EXIF": jpeg_with(*[segment(0xE1, b"Exif\0\0" + b"x" * 65_000)] * 50),
        "JPEG with a damaged resource": jpeg_with(segment(0xED, adobe)),
        "JPEG with a damaged list of pictures": jpeg_with(segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff")),
        "JPEG with broken XMP": jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff")),
        "WebP with a large profile": encoded("WEBP", icc_profile=large),
        "WebP with large XMP": webp_with(b"XMP ", large),
        "WebP with an unknown chunk": webp_with(b"odd ", large),
        "GIF with a large comment": gif_with(gif_blocks(0xFE, large)),
        "GIF with 9,000 comments": gif_with(*[gif_blocks(0xFE, b"red", size=1)] * 9_000),
        "GIF with large application data": gif_with(gif_blocks(0xFF, b"XMP DataXMP" + large)),
        "GIF with an endless loop": gif_with(gif_blocks(0xFF, b"NETSCAPE2.0", 11)[:-1] + b"\3\1\0\0\0"),
        "GIF with plain text": gif_with(gif_blocks(0x01, bytes(12) + large)),
        "GIF with an unknown extension": gif_with(gif_blocks(0x99, large)),
        "GIF with every disposal": gif_with(*[gif_blocks(0xF9, bytes([way << 2, 9, 9, 0])) for way in range(8)]),
        "GIF with a graphic control of another length": gif_with(gif_blocks(0xF9, b"\1"), gif_blocks(0xF9, b"")),
        "GIF before other content": encoded("GIF") + large,
        "AVIF with a large profile": encoded("AVIF", icc_profile=large),
        "AVIF with large XMP": encoded("AVIF", xmp=large),
        "AVIF with long EXIF": with_exif("AVIF", large),
    }
