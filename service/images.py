"""From an encoded picture to `pixel_values`, exactly as the backbone's own image processor does it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from model_store import ImagePreprocessing
from service.errors import Code, ServiceError

_FLOAT_LEVELS = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_BAND_ROWS = 256
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def decode(
    data: bytes,
    max_pixels: int,
    preprocessing: ImagePreprocessing | None = None,
    make_room: Callable[[int], object] = lambda _: None,
) -> Image.Image:
    """The first frame of a JPEG, PNG or WebP picture, upright, as RGB over white.

    A missing image is a white picture in training, so white is what transparency shows.

    Args:
        preprocessing: what `pixel_values` will be asked for. Then a JPEG of at least four times the size it is resized
            to is decoded at 1/2, 1/4 or 1/8 of its scale and comes back resized already.
        make_room: told how many pixels are going to be in memory, before they are; may block.

    Raises:
        ServiceError: `image_format`, `image_too_many_pixels` (from the header, before decoding), `image_undecodable`.
    """
    file_format = _format_of(data)
    try:
        with Image.open(io.BytesIO(data), formats=[file_format]) as picture:
            _check_pixels(picture.width, picture.height, max_pixels)
            whole = picture.width * picture.height
            drafted = None if preprocessing is None else _draft(picture, preprocessing)
            make_room(_pixels_in_memory(picture, whole, preprocessing))
            return _over_white(picture if drafted is None else picture.convert("RGB").resize(*drafted))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except ServiceError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the damage leads to
        raise ServiceError(Code.IMAGE_UNDECODABLE, f"The {file_format} file is damaged or cut short.") from error


def pixel_values(picture: Image.Image, preprocessing: ImagePreprocessing, max_pixels: int) -> NDArray[np.float32]:
    """Resize, centre-crop, scale to 0..1 and normalise an RGB picture.

    Returns:
        (1, 3, H, W), equal to what transformers' image processor of the backbone gives.

    Raises:
        ServiceError: `image_too_many_pixels` when a very elongated picture would exceed `max_pixels` once resized.
    """
    height, width = resized_size(picture.height, picture.width, preprocessing)
    _check_pixels(width, height, max_pixels)
    resized = picture.resize((width, height), _resampling(preprocessing))
    crop = preprocessing.crop
    pixels = np.asarray(resized) if crop is None else _centre_crop(resized, crop)  # (H, W, 3)
    mean = np.array(preprocessing.mean, np.float32)[:, None]
    std = np.array(preprocessing.std, np.float32)[:, None]
    normalised = (_FLOAT_LEVELS - mean) / std  # (3, 256): a pixel has one of 256 levels, so look its value up
    return np.stack([levels[pixels[..., channel]] for channel, levels in enumerate(normalised)])[None]


def resized_size(height: int, width: int, preprocessing: ImagePreprocessing) -> tuple[int, int]:
    """(height, width) before the crop; the longer edge is rounded down."""
    if preprocessing.exact_size is not None:
        return preprocessing.exact_size
    short, long = sorted((height, width))
    target = preprocessing.shortest_edge or short
    scaled = int(target * long / short)
    return (scaled, target) if width <= height else (target, scaled)


def _format_of(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    raise ServiceError(Code.IMAGE_FORMAT, "Send a JPEG, PNG or WebP file; an image is never fetched from a URL.")


def _pixels_in_memory(picture: Image.Image, whole: int, preprocessing: ImagePreprocessing | None) -> int:
    """Of the picture as it is about to be decoded, and as it is resized; libjpeg holds a progressive one whole."""
    resized = (0, 0) if preprocessing is None else resized_size(picture.height, picture.width, preprocessing)
    decoded = whole if picture.info.get("progressive") else picture.width * picture.height
    return decoded + resized[0] * resized[1]


def _draft(
    picture: ImageFile.ImageFile, preprocessing: ImagePreprocessing
) -> tuple[tuple[int, int], Image.Resampling, tuple[float, float, float, float]] | None:
    """Have a JPEG decoded at a reduced scale that leaves resizing twice what it gives; None where there is no such.

    Returns:
        What `resize` is to be called with.

    Resizing takes the box that `draft` gives: part of a scaled picture's last row and column may lie beyond its edge.
    """
    if picture.format not in ("JPEG", "MPO"):
        return None
    width, height = picture.size
    if picture.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS:
        to_width, to_height = resized_size(width, height, preprocessing)
    else:
        to_height, to_width = resized_size(height, width, preprocessing)
    drafted = picture.draft(None, (2 * to_width, 2 * to_height))
    if drafted is None or picture.size == (width, height):
        return None
    return (to_width, to_height), _resampling(preprocessing), drafted[1]


def _over_white(picture: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(picture, in_place=True)  # in place, and not converted when RGB: large pictures copy slowly
    if picture.mode in _WIDE_MODES:  # 16-bit greyscale; Pillow's own conversion would clip it to white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        return _composed_over_white(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _composed_over_white(picture: Image.Image) -> Image.Image:
    """In bands of rows: whole, it would take four times the memory."""
    composed = Image.new("RGB", picture.size)
    for top in range(0, picture.height, _BAND_ROWS):
        box = (0, top, picture.width, min(top + _BAND_ROWS, picture.height))
        band = picture.crop(box).convert("RGBA")
        composed.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return composed


def _resampling(preprocessing: ImagePreprocessing) -> Image.Resampling:
    return Image.Resampling[preprocessing.resample.upper()]


def _centre_crop(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3): the middle cut or zero-padded to `size`; an odd row or column goes to the top or left.

    It is cut before it becomes an array, as a picture of one by 60,000 pixels is huge once resized.
    """
    height, width = min(picture.height, size[0]), min(picture.width, size[1])
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    pixels = np.asarray(picture.crop((left, top, left + width, top + height)))
    if (height, width) == tuple(size):
        return pixels
    missing = size[0] - height, size[1] - width
    return np.pad(pixels, [*((math.ceil(rows / 2), rows // 2) for rows in missing), (0, 0)])


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)


def _too_many_pixels(max_pixels: int) -> ServiceError:
    detail = f"An image may have {max_pixels} pixels, before and after it is resized; send a smaller one."
    return ServiceError(Code.IMAGE_TOO_MANY_PIXELS, detail)
