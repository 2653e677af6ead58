"""Pictures to damage, and pictures that are bombs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from random import Random

import numpy as np
from PIL import Image

from tests.support.faults.mutation import mutate
from tests.support.odd_pictures import saying

MOST_BOMB_BYTES = 128 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"


def seeds() -> list[bytes]:
    """Small pictures of every format, mode and feature that the decoder has a way of its own for."""
    noise = np.random.default_rng(0)
    colours = Image.fromarray(noise.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    smooth = colours.resize((200, 150), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    wide = Image.fromarray(noise.integers(0, 2**16, (20, 30), dtype=np.uint16))
    return [
        *(encoded(colours.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        encoded(wide, "PNG"),
        encoded(colours.convert("P"), "PNG", transparency=3),
        encoded(colours, "PNG", save_all=True, append_images=[colours]),
        *(encoded(smooth.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")),
        encoded(smooth, "JPEG", progressive=True, exif=turned),
        encoded(smooth.resize((900, 700)), "JPEG", quality=20),
        *(
            encoded(colours.convert(mode), "WEBP", lossless=lossless)
            for mode in ("RGB", "RGBA")
            for lossless in (True, False)
        ),
        encoded(colours, "WEBP", save_all=True, append_images=[smooth.resize((64, 48))]),
        *(encoded(colours.convert(mode), "AVIF", exif=turned) for mode in ("L", "RGB", "RGBA")),
        *(encoded(colours.convert("P"), "GIF", interlace=interlace) for interlace in (True, False)),
        encoded(colours.convert("P"), "GIF", transparency=3, comment=b"red"),
        encoded(colours, "GIF", save_all=True, append_images=[smooth.resize((64, 48))], disposal=2),
        encoded(colours, "AVIF", save_all=True, append_images=[colours]),
    ]


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def damaged(pictures: list[bytes], random: Random) -> bytes:
    """One of the pictures, damaged; most PNGs get new checksums, else nothing behind these would be tried."""
    data = mutate(random.choice(pictures), random, pictures)
    return _with_checksums(data) if data.startswith(_PNG) and random.random() < 0.7 else data


@cache
def bombs() -> list[bytes]:
    """Forty small files that say, or unpack to, something huge."""
    plain = Image.new("RGB", (8, 8))
    flat = [encoded(Image.new("1", (side, side)), "PNG") for side in (8_000, 12_000, 16_000)]
    huge = [
        _png_that_says(width, height) for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (60_000, 60_000))
    ]
    unpacking = [_png_with(b"zTXt", b"a\0\0"), _png_with(b"iCCP", b"a\0\0"), _png_with(b"iTXt", b"a\0\1\0\0\0")]
    others = [
        _jpeg_that_says(65_535, 65_535),
        _jpeg_that_says(65_535, 1_000),
        _webp_that_says(16_384, 16_384),
        _avif_that_says(65_536, 65_536),
        _avif_that_says(1, 60_000),
        _avif_of_more_than_it_says(),
        encoded(Image.new("1", (1, 60_000)), "PNG"),  # resized, it is nearly a million pixels high, which is allowed
        encoded(Image.new("1", (1, 200_000)), "PNG"),  # and this would be millions
        *(_gif_that_says(canvas, frame) for canvas, frame in ((65_535, 8), (8, 65_535), (7_000, 8), (8, 13_000))),
        encoded(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
        encoded(plain, "PNG", save_all=True, append_images=[Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(200)]),
    ]
    kinds = [*flat, *huge, *unpacking, *others]
    assert max(map(len, kinds)) <= MOST_BOMB_BYTES
    return (kinds * 40)[:40]


LARGEST = {
    "grey PNG": 7_000,
    "RGBA PNG": 5_000,
    "progressive JPEG": 4_900,
    "WebP": 2_900,
    "AVIF": 2_600,
    "GIF": 7_000,
    "partial GIF": 4_300,
}  # that are allowed: edges


def large(kind: str, edge: int) -> bytes:
    """A small file that unpacks to a square picture, of the costliest sort of its kind."""
    if kind == "grey PNG":
        return encoded(Image.new("L", (edge, edge)), "PNG")
    if kind == "RGBA PNG":
        return encoded(Image.new("RGBA", (edge, edge), (9, 9, 9, 99)), "PNG")
    if kind == "GIF":
        return encoded(Image.new("P", (edge, edge)), "GIF")
    if kind == "partial GIF":
        data = encoded(Image.new("P", (1, 1)), "GIF")
        return data[:6] + struct.pack("<HH", edge, edge) + data[10:]
    if kind == "AVIF":
        return encoded(Image.new("RGB", (edge, edge)), "AVIF", subsampling="4:4:4", speed=10)
    if kind == "WebP":
        return encoded(Image.new("RGB", (edge, edge)), "WEBP", lossless=True, method=0, quality=0)
    return encoded(Image.new("RGB", (edge, edge)), "JPEG", progressive=True, subsampling=0)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        length = min(length, len(data) - place - 12)
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_checksums(data: bytes) -> bytes:
    return _PNG + b"".join(_chunk(kind, content) for kind, content in _chunks(data))


def _png_that_says(width: int, height: int) -> bytes:
    chunks = dict(_chunks(encoded(Image.new("L", (8, 8)), "PNG")))
    chunks[b"IHDR"] = struct.pack(">II", width, height) + chunks[b"IHDR"][8:]
    return _PNG + b"".join(_chunk(kind, content) for kind, content in chunks.items())


def _png_with(kind: bytes, head: bytes) -> bytes:
    """A picture with metadata that unpacks to 50 MB."""
    header, *rest = _chunks(encoded(Image.new("L", (8, 8)), "PNG"))
    bomb = (kind, head + zlib.compress(bytes(50_000_000), 9))
    return _PNG + b"".join(_chunk(*chunk) for chunk in (header, bomb, *rest))


def _jpeg_that_says(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _webp_that_says(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    place = data.index(b"VP8L") + 9
    data[place : place + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


def _gif_that_says(canvas: int, frame: int) -> bytes:
    """Its frame is disposed of by its colour, for which a decoder may make room at once."""
    header, palette = struct.pack("<6sHHBBB", b"GIF89a", canvas, canvas, 0x80, 0, 0), bytes(3) + b"\xff\xff\xff"
    return header + palette + b"!\xf9\4\x09\0\0\1\0" + struct.pack("<sHHHHB", b",", 0, 0, frame, frame, 0) + b"\2\0;"


def _avif_that_says(width: int, height: int) -> bytes:
    return saying(encoded(Image.new("L", (8, 8)), "AVIF"), width, height)


def _avif_of_more_than_it_says() -> bytes:
    return saying(encoded(Image.new("L", (7_500, 7_500)), "AVIF", subsampling="4:0:0", speed=10), 8, 8)
