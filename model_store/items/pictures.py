"""From an encoded picture to `pixel_values`, exactly as the backbone's own image processor does it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from model_store import ImagePreprocessing
from service.errors import Code, ServiceError

_FLOAT_LEVELS = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_LARGE_PIXELS = 2**22  # from here on no second copy is made of a picture
_BAND_PIXELS = 2**18
_BAND_BYTES = 20 * _BAND_PIXELS  # of what is made of a band on its way to RGB
_BYTES_A_ROW = 56  # or a column: the weights that Pillow resizes it with
_WEBP_BYTES_PER_PIXEL = 16  # libwebp's canvas and working copy, Pillow's copy and the picture
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_QUARTER_TURNS = (5, 6, 7, 8)  # orientations that swap width and height


def decode(
    data: bytes,
    max_pixels: int,
    preprocessing: ImagePreprocessing | None = None,
    make_room: Callable[[int], object] = lambda _: None,
) -> Image.Image:
    """The first frame of a JPEG, PNG or WebP picture, upright, as RGB over white.

    A missing image is a white picture in training, so white is what transparency shows.

    Args:
        preprocessing: then the picture comes back as `fit` makes it, without ever being in memory a second time, and a
            JPEG of at least four times the size it is resized to is decoded at 1/2, 1/4 or 1/8 of its scale.
        make_room: told how many bytes decoding is going to take, before it does; may block.

    Raises:
        ServiceError: `image_format`, `image_too_many_pixels` (from the header, before decoding), `image_undecodable`.
    """
    file_format = _format_of(data)
    try:
        with Image.open(io.BytesIO(data), formats=[file_format]) as picture:
            _check_pixels(picture.width, picture.height, max_pixels)
            whole = picture.width * picture.height
            drafted = None if preprocessing is None else _draft(picture, preprocessing)
            make_room(_bytes_in_memory(picture, whole, preprocessing))
            picture.load()
            orientation = _orientation(picture)  # only now: a PNG may say it after its pixels
            if preprocessing is None:
                return _upright(_over_white(picture), orientation)
            if drafted is None:
                return fit(picture, preprocessing, max_pixels, orientation)
            return _centre_crop(_upright(picture.convert("RGB").resize(*drafted), orientation), preprocessing)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(max_pixels) from error
    except ServiceError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the damage leads to
        raise ServiceError(
            Code.IMAGE_UNDECODABLE, f"The {file_format} file is damaged or cut short; send it whole."
        ) from error


def fit(picture: Image.Image, preprocessing: ImagePreprocessing, max_pixels: int, orientation: int = 1) -> Image.Image:
    """A picture of any mode resized and centre-cropped, as RGB over white; `orientation` is EXIF's, undone here.

    A large one is resized channel by channel, which gives the same pixels and takes a quarter of the memory.

    Raises:
        ServiceError: `image_too_many_pixels` when a very elongated picture would exceed `max_pixels` once resized.
    """
    width, height = picture.size[::-1] if orientation in _QUARTER_TURNS else picture.size
    to_height, to_width = resized_size(height, width, preprocessing)
    _check_pixels(to_width, to_height, max_pixels)

    def resized(upright: Image.Image) -> Image.Image:
        return _centre_crop(upright.resize((to_width, to_height), _resampling(preprocessing)), preprocessing)

    is_ready = picture.mode == "RGB" and "transparency" not in picture.info and orientation == 1
    if to_width * to_height <= _LARGE_PIXELS and (is_ready or width * height <= _LARGE_PIXELS):
        return resized(_upright(_over_white(picture), orientation))
    return Image.merge("RGB", [resized(_upright(_channel(picture, name), orientation)) for name in "RGB"])


def pixel_values(picture: Image.Image, preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
    """Scale to 0..1 and normalise what `fit`, or `decode` with preprocessing, has made.

    Returns:
        (1, 3, H, W), equal to what transformers' image processor of the backbone gives.
    """
    pixels = np.asarray(picture)  # (H, W, 3)
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


def media_type_of(data: bytes) -> str:
    """The media type of an encoded picture, such as image/png. Raises ServiceError `image_format`."""
    return f"image/{_format_of(data).lower()}"


def _format_of(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    raise ServiceError(Code.IMAGE_FORMAT, "Send a JPEG, PNG or WebP file; an image is never fetched from a URL.")


def _bytes_in_memory(picture: Image.Image, whole: int, preprocessing: ImagePreprocessing | None) -> int:
    """Of the picture as it is about to be decoded, and of what is made of it; `whole` is its pixels at full scale."""
    pixels = picture.width * picture.height
    to_size = (0, 0) if preprocessing is None else resized_size(picture.height, picture.width, preprocessing)
    resized = math.prod(to_size)
    is_large = max(pixels, resized) > _LARGE_PIXELS
    made = 2 * (pixels + resized) + _BAND_BYTES if is_large else 4 * (pixels + resized)
    made += _BYTES_A_ROW * max(*picture.size, *to_size)
    if picture.format == "WEBP":
        return _WEBP_BYTES_PER_PIXEL * pixels + made
    pixel_bytes = 1 if picture.mode in ("1", "L", "P") else 2 if picture.mode in _WIDE_MODES else 4
    held = 2 * len(picture.getbands()) * whole if picture.info.get("progressive") else 0  # libjpeg's coefficients
    return pixel_bytes * pixels + held + made


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
    if _orientation(picture) in _QUARTER_TURNS:
        to_width, to_height = resized_size(width, height, preprocessing)
    else:
        to_height, to_width = resized_size(height, width, preprocessing)
    drafted = picture.draft(None, (2 * to_width, 2 * to_height))
    if drafted is None or picture.size == (width, height):
        return None
    return (to_width, to_height), _resampling(preprocessing), drafted[1]


def _orientation(picture: Image.Image) -> int:
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    return orientation if orientation in _UPRIGHT else 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    return picture if orientation == 1 else picture.transpose(_UPRIGHT[orientation])


def _channel(picture: Image.Image, name: str) -> Image.Image:
    """One channel of the picture as RGB over white, converted in bands of rows."""
    channel = Image.new("L", picture.size)
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        channel.paste(_over_white(picture.crop(box)).getchannel(name), box)
    return channel


def _over_white(picture: Image.Image) -> Image.Image:
    if picture.mode in _WIDE_MODES:  # 16-bit greyscale; Pillow's own conversion would clip it to white
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _resampling(preprocessing: ImagePreprocessing) -> Image.Resampling:
    return Image.Resampling[preprocessing.resample.upper()]


def _centre_crop(picture: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    """The middle, cut or padded with black to the size of `pixel_values`; an odd row or column goes top or left."""
    height, width = preprocessing.output_size
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels)


def _too_many_pixels(max_pixels: int) -> ServiceError:
    detail = f"An image may have {max_pixels} pixels, before and after it is resized; send a smaller one."
    return ServiceError(Code.IMAGE_TOO_MANY_PIXELS, detail)
