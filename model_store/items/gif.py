"""The first frame of a GIF file, and the canvas around it.

The blocks are those of GIF89a, which contains GIF87a. Damage raises ValueError or IndexError.
"""

from __future__ import annotations

from typing import TypeAlias

from PIL import Image, ImageFile

Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom
_HEADER_BYTES = 13  # version, size of the canvas, flags, background, aspect ratio
_EXTENSION, _IMAGE = ord("!"), ord(",")
_GRAPHIC_CONTROL = b"!\xf9\x04"
_HAS_PALETTE, _IS_TRANSPARENT = 0x80, 0x01  # flags
_MAX_BLOCKS = 100_000  # before the first frame; a file of more would keep a core busy for long


def still_picture(data: bytes) -> bytes:
    """The file without the extensions before its first frame, of which only the transparent colour is kept.

    Pillow collects comments of any length, and makes a picture for the frame's disposal before its size can be checked.
    """
    flags = data[10]
    palette_end = _HEADER_BYTES + (3 << (flags & 7) + 1 if flags & _HAS_PALETTE else 0)
    place, is_inside, transparency = palette_end, False, b""
    for _ in range(_MAX_BLOCKS):
        if is_inside:
            is_inside = data[place] > 0
            place += 1 + data[place]
        elif data[place] == _EXTENSION:
            if data.startswith(_GRAPHIC_CONTROL, place):
                transparency = _transparency(data[place + 3], data[place + 6])
            place, is_inside = place + 2, True
        elif data[place] == _IMAGE:
            return data[:palette_end] + transparency + data[place:]
        else:
            raise ValueError("neither an extension nor a frame")
    raise ValueError("too many blocks")


def partial_frame(picture: ImageFile.ImageFile) -> Box | None:
    """Where the frame of a picture that is not loaded lies; None unless it leaves a part of the canvas undefined.

    Pillow fills that part with the transparent colour; without one, with the first colour of the palette.
    """
    frame = picture.tile[0].extents
    return None if frame == (0, 0, *picture.size) or "transparency" in picture.info else frame


def clear_outside(picture: Image.Image, frame: Box) -> None:
    """Make the canvas around the frame transparent, as browsers show it."""
    mask = Image.new("L", picture.size)
    mask.paste(255, frame)
    picture.putalpha(mask)


def _transparency(flags: int, colour: int) -> bytes:
    """A graphic control of nothing but the transparent colour; empty if there is none."""
    if not flags & _IS_TRANSPARENT:
        return b""
    return _GRAPHIC_CONTROL + bytes([_IS_TRANSPARENT, 0, 0, colour, 0])
