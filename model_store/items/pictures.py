"""From an encoded picture to `pixel_values`; training and the service both use this path."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from model_store.items.contents import describe_content
from model_store.items.pixels import (
    BAND_PIXELS,
    LARGE_PIXELS,
    WIDE_MODES,
    centre_crop,
    fit,
    normalised,
    orientation_of,
    resized_size,
    rgb_over_white,
    turned_upright,
    upright_size,
)
from model_store.manifest import ImagePreprocessing

MAX_PIXELS = 50_000_000  # of one picture, before and after it is resized
_BAND_BYTES = 20 * BAND_PIXELS  # copies of a band during its conversion to RGB
_BYTES_A_ROW = 56  # of Pillow's resizing weights, for each row or column
_WEBP_BYTES_PER_PIXEL = 16  # libwebp's canvas and working copy, Pillow's copy and the picture
_Resizing = tuple[tuple[int, int], Image.Resampling, tuple[float, float, float, float]]  # arguments of `resize`


class PictureProblem(StrEnum):
    """What is wrong with a picture."""

    FORMAT = "format"  # neither JPEG, PNG nor WebP
    PIXELS = "pixels"  # more than the limit
    UNDECODABLE = "undecodable"  # damaged or cut short
    MEMORY = "memory"  # decoding takes more memory than the budget


class PictureError(Exception):
    """A picture that cannot be used. The message names the cause and the cure, and never repeats the input."""

    def __init__(self, problem: PictureProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def pixel_values(
    source: bytes | Path,
    preprocessing: ImagePreprocessing,
    max_pixels: int = MAX_PIXELS,
    make_room: Callable[[int], object] = lambda _: None,
) -> NDArray[np.float32]:
    """(3, H, W) of an encoded picture or its file. The arguments and errors are those of `decode`."""
    return normalised(decode(source, max_pixels, preprocessing, make_room), preprocessing)


def decode(
    source: bytes | Path,
    max_pixels: int = MAX_PIXELS,
    preprocessing: ImagePreprocessing | None = None,
    make_room: Callable[[int], object] = lambda _: None,
) -> Image.Image:
    """The first frame of a JPEG, PNG or WebP picture, upright, as RGB over white.

    Args:
        preprocessing: if given, the picture is resized and cropped as by `fit`, without a second copy of a large
            picture. A JPEG of at least four times its resized size is decoded at 1/2, 1/4 or 1/8 of its scale.
        make_room: called before decoding with the number of bytes that decoding will take; may block.

    Raises:
        PictureError: `FORMAT`; `PIXELS`, if the header gives too many pixels, or if resizing a very elongated picture
            would enlarge it beyond the limit; `UNDECODABLE`; or the error of `make_room`.
        OSError: the file cannot be read.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    file_format = _format_of(data)
    try:
        with Image.open(io.BytesIO(data), formats=[file_format]) as picture:
            _check_pixels(picture.size, max_pixels)
            whole = picture.width * picture.height
            drafted = None if preprocessing is None else _draft(picture, preprocessing)
            make_room(_bytes_in_memory(picture, whole, preprocessing))
            picture.load()
            orientation = orientation_of(picture)  # only now: in a PNG it may follow the pixels
            if preprocessing is None:
                return rgb_over_white(picture, orientation)
            if drafted is not None:
                resized = picture.convert("RGB").resize(*drafted)
                return centre_crop(turned_upright(resized, orientation), preprocessing)
            _check_pixels(resized_size(upright_size(picture.size, orientation), preprocessing), max_pixels)
            return fit(picture, preprocessing, orientation)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except PictureError:
        raise
    except Exception as error:  # Pillow's plugins raise errors of many types for damaged files
        message = f"The {file_format} file is damaged or cut short; send it whole."
        raise PictureError(PictureProblem.UNDECODABLE, message) from error


def media_type_of(data: bytes) -> str:
    """The media type of an encoded picture, such as image/png. Raises PictureError `FORMAT`."""
    return f"image/{_format_of(data).lower()}"


def _format_of(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    kind = describe_content(data)
    message = "Send a JPEG, PNG or WebP file; an image is never fetched from a URL."
    raise PictureError(PictureProblem.FORMAT, f"{message} This is {kind}." if kind else message)


def _draft(picture: ImageFile.ImageFile, preprocessing: ImagePreprocessing) -> _Resizing | None:
    """Set a JPEG to decode at a reduced scale of at least twice its resized size; None if only the full scale is.

    Resizing takes the box that `draft` returns: the last row and column may lie partly beyond the original's edge.
    """
    if picture.format not in ("JPEG", "MPO"):
        return None
    whole, orientation = picture.size, orientation_of(picture)
    width, height = upright_size(resized_size(upright_size(whole, orientation), preprocessing), orientation)
    drafted = picture.draft(None, (2 * width, 2 * height))
    if drafted is None or picture.size == whole:
        return None
    return (width, height), Image.Resampling[preprocessing.resample.upper()], drafted[1]


def _bytes_in_memory(picture: Image.Image, whole: int, preprocessing: ImagePreprocessing | None) -> int:
    """Peak memory of decoding and resizing, in bytes; `whole` is the number of pixels at full scale."""
    pixels = picture.width * picture.height
    to_size = (0, 0) if preprocessing is None else resized_size(picture.size, preprocessing)
    resized = math.prod(to_size)
    is_large = max(pixels, resized) > LARGE_PIXELS
    made = 2 * (pixels + resized) + _BAND_BYTES if is_large else 4 * (pixels + resized)
    made += _BYTES_A_ROW * max(*picture.size, *to_size)
    if picture.format == "WEBP":
        return _WEBP_BYTES_PER_PIXEL * pixels + made
    pixel_bytes = 1 if picture.mode in ("1", "L", "P") else 2 if picture.mode in WIDE_MODES else 4
    held = 2 * len(picture.getbands()) * whole if picture.info.get("progressive") else 0  # libjpeg's coefficients
    return pixel_bytes * pixels + held + made


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if math.prod(size) > max_pixels:
        raise _too_many_pixels(max_pixels)


def _too_many_pixels(max_pixels: int) -> PictureError:
    message = f"An image may have {max_pixels} pixels, before and after it is resized; send a smaller one."
    return PictureError(PictureProblem.PIXELS, message)
