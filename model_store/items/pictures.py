"""From an encoded picture to `pixel_values`; training and the service both use this path."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageFile, features

from model_store.items.avif import coded_pixels
from model_store.items.contents import describe_content
from model_store.items.formats import FORMATS, PictureFormat, format_of
from model_store.items.gif import Box, clear_outside, partial_frame
from model_store.items.metadata import orientation_of, without_metadata
from model_store.items.pixels import (
    BAND_PIXELS,
    LARGE_PIXELS,
    WIDE_MODES,
    centre_crop,
    fit,
    normalised,
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
_AVIF_BYTES_PER_PIXEL = 11  # libavif's RGB, Pillow's copy and the picture
_AVIF_BYTES_PER_CODED_PIXEL = 9  # the decoder's planes at 12 bits, and what it keeps of each block
_GIF_BYTES_PER_PIXEL = 6  # of a partial frame: the picture, the mask and the picture with alpha
_DECODERS = {
    PictureFormat.JPEG: "jpg",
    PictureFormat.PNG: "zlib",
    PictureFormat.WEBP: "webp",
    PictureFormat.AVIF: "avif",
}  # names of Pillow's features; Pillow always reads GIF
_Resizing = tuple[tuple[int, int], Image.Resampling, tuple[float, float, float, float]]  # arguments of `resize`
# Memory grows with the threads, by default one a core. Pillow has no argument for their number.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


class PictureProblem(StrEnum):
    """What is wrong with a picture."""

    FORMAT = "format"  # none of FORMATS
    DECODER = "decoder"  # a format that Pillow was built without
    PIXELS = "pixels"  # more than the limit
    UNDECODABLE = "undecodable"  # damaged or cut short


class PictureError(Exception):
    """A picture that cannot be used. The message names the cause and the cure, and never repeats the input."""

    def __init__(self, problem: PictureProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def pixel_values(
    source: bytes | Path, preprocessing: ImagePreprocessing, max_pixels: int = MAX_PIXELS
) -> NDArray[np.float32]:
    """(3, H, W) of an encoded picture or its file. The arguments and errors are those of `decode`."""
    return normalised(decode(source, max_pixels, preprocessing), preprocessing)


def decode(
    source: bytes | Path, max_pixels: int = MAX_PIXELS, preprocessing: ImagePreprocessing | None = None
) -> Image.Image:
    """The first frame of a picture in one of FORMATS, upright, as RGB over white, without metadata.

    Args:
        preprocessing: if given, the picture is resized and cropped as by `fit`, without a second copy of a large
            picture. A JPEG of at least four times its resized size is decoded at 1/2, 1/4 or 1/8 of its scale.

    Raises:
        PictureError: `FORMAT`; `PIXELS`, if the header gives too many pixels, or if resizing a very elongated picture
            would enlarge it beyond the limit; or `UNDECODABLE`.
        OSError: the file cannot be read.
    """
    opened = _opened(source.read_bytes() if isinstance(source, Path) else source, max_pixels, preprocessing)
    with opened as (picture, orientation, drafted, frame, _):
        picture.load()
        if frame is not None:
            clear_outside(picture, frame)
        if preprocessing is None:
            upright = rgb_over_white(picture, orientation)
            upright.info.clear()  # else Pillow would write parts of it into the files made of the picture
            return upright
        if drafted is not None:
            resized = picture.convert("RGB").resize(*drafted)
            return centre_crop(turned_upright(resized, orientation), preprocessing)
        return fit(picture, preprocessing, orientation)


def decoding_bytes(data: bytes, max_pixels: int = MAX_PIXELS, preprocessing: ImagePreprocessing | None = None) -> int:
    """The memory that `decode` takes at its peak, from the picture's header. Raises the errors of `decode`."""
    with _opened(data, max_pixels, preprocessing) as opened:
        return opened.decoding_bytes


def media_type_of(data: bytes) -> str:
    """The media type of an encoded picture, such as image/png. Raises PictureError `FORMAT`."""
    return _format_of(data).media_type


class _Opened(NamedTuple):
    """A picture whose header has been read."""

    picture: ImageFile.ImageFile
    orientation: int
    drafted: _Resizing | None
    frame: Box | None  # of a GIF, whose first frame covers a part of the canvas
    decoding_bytes: int


@contextmanager
def _opened(data: bytes, max_pixels: int, preprocessing: ImagePreprocessing | None) -> Iterator[_Opened]:
    """Read and check the header. Every error of the block is raised as a PictureError."""
    file_format = _format_of(data)
    try:
        coded = coded_pixels(data) if file_format is PictureFormat.AVIF else []
        _check_pixels(max(coded, default=0), max_pixels)
        data, metadata = without_metadata(data, file_format)
        with Image.open(io.BytesIO(data), formats=[file_format.name]) as picture:
            info = {name: picture.info.get(name) for name in ("exif", "xmp")}
            orientation = orientation_of(info | metadata)
            whole = math.prod(picture.size)
            _check_pixels(whole, max_pixels)
            drafted = None if preprocessing is None else _draft(picture, preprocessing, orientation)
            frame = partial_frame(picture) if file_format is PictureFormat.GIF else None
            if preprocessing is not None and drafted is None:
                resized = resized_size(upright_size(picture.size, orientation), preprocessing)
                _check_pixels(math.prod(resized), max_pixels)
            in_memory = len(data) + _bytes_in_memory(picture, whole, preprocessing, sum(coded), frame)
            yield _Opened(picture, orientation, drafted, frame, in_memory)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except PictureError:
        raise
    except Exception as error:  # Pillow's plugins raise errors of many types for damaged files
        message = f"The {file_format} file is damaged or cut short; send it whole."
        raise PictureError(PictureProblem.UNDECODABLE, message) from error


def _format_of(data: bytes) -> PictureFormat:
    file_format = format_of(data)
    if file_format is None:
        kind = describe_content(data)
        message = f"Send a {FORMATS} file; an image is never fetched from a URL."
        raise PictureError(PictureProblem.FORMAT, f"{message} This is {kind}." if kind else message)
    decoder = _DECODERS.get(file_format)
    if decoder is not None and not features.check(decoder):
        message = f"Pillow was built without {file_format} here; install the wheel of Pillow, or send another format."
        raise PictureError(PictureProblem.DECODER, message)
    return file_format


def _draft(picture: ImageFile.ImageFile, preprocessing: ImagePreprocessing, orientation: int) -> _Resizing | None:
    """Set a JPEG to decode at a reduced scale of at least twice its resized size; None if only the full scale is.

    Resizing takes the box that `draft` returns: the last row and column may lie partly beyond the original's edge.
    """
    if picture.format != "JPEG":
        return None
    whole = picture.size
    width, height = upright_size(resized_size(upright_size(whole, orientation), preprocessing), orientation)
    drafted = picture.draft(None, (2 * width, 2 * height))
    if drafted is None or picture.size == whole:
        return None
    return (width, height), Image.Resampling[preprocessing.resample.upper()], drafted[1]


def _bytes_in_memory(
    picture: Image.Image, whole: int, preprocessing: ImagePreprocessing | None, coded: int, partial_frame: Box | None
) -> int:
    """Peak memory of decoding and resizing, in bytes.

    Args:
        whole: the number of pixels at full scale.
        coded: the number of pixels of all coded pictures in an AVIF file.
        partial_frame: of a GIF file.
    """
    pixels = picture.width * picture.height
    to_size = (0, 0) if preprocessing is None else resized_size(picture.size, preprocessing)
    resized = math.prod(to_size)
    is_large = max(pixels, resized) > LARGE_PIXELS
    made = 2 * (pixels + resized) + _BAND_BYTES if is_large else 4 * (pixels + resized)
    made += _BYTES_A_ROW * max(*picture.size, *to_size)
    if picture.format == "WEBP":
        return _WEBP_BYTES_PER_PIXEL * pixels + made
    if picture.format == "AVIF":
        return _AVIF_BYTES_PER_PIXEL * pixels + _AVIF_BYTES_PER_CODED_PIXEL * coded + made
    if partial_frame is not None:
        return _GIF_BYTES_PER_PIXEL * pixels + made
    pixel_bytes = 1 if picture.mode in ("1", "L", "P") else 2 if picture.mode in WIDE_MODES else 4
    held = 2 * len(picture.getbands()) * whole if picture.info.get("progressive") else 0  # libjpeg's coefficients
    return pixel_bytes * pixels + held + made


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise _too_many_pixels(max_pixels)


def _too_many_pixels(max_pixels: int) -> PictureError:
    message = f"An image may have {max_pixels} pixels, before and after it is resized; send a smaller one."
    return PictureError(PictureProblem.PIXELS, message)
