"""From a decoded picture to `pixel_values`, exactly as by the image processor of the backbone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model_store.manifest import ImagePreprocessing

LARGE_PIXELS = 2**22  # a picture with more pixels is never copied whole
BAND_PIXELS = 2**14  # of a large picture, converted to RGB together, for which Pillow holds Python's lock
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_FLOAT_LEVELS = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
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


def normalised(picture: Image.Image, preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
    """Scale a picture of the size of `pixel_values` to 0..1 and normalise it.

    Returns:
        (3, H, W), equal to the output of the backbone's image processor in transformers.
    """
    pixels = np.asarray(picture)  # (H, W, 3)
    mean = np.array(preprocessing.mean, np.float32)[:, None]
    std = np.array(preprocessing.std, np.float32)[:, None]
    levels = (_FLOAT_LEVELS - mean) / std  # (3, 256): a pixel has one of 256 levels
    values = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        np.take(levels[channel], pixels[..., channel], out=values[channel], mode="clip")  # other modes copy the output
    return values


def fit(picture: Image.Image, preprocessing: ImagePreprocessing, orientation: int = 1) -> Image.Image:
    """A picture of any mode, turned upright by its EXIF `orientation`, resized and centre-cropped, as RGB over white.

    A large picture is resized channel by channel, which gives the same pixels with a quarter of the memory.
    """
    size = resized_size(upright_size(picture.size, orientation), preprocessing)

    def resized(upright: Image.Image) -> Image.Image:
        return centre_crop(upright.resize(size, Image.Resampling[preprocessing.resample.upper()]), preprocessing)

    is_ready = picture.mode == "RGB" and "transparency" not in picture.info and orientation == 1
    if size[0] * size[1] <= LARGE_PIXELS and (is_ready or picture.width * picture.height <= LARGE_PIXELS):
        return resized(rgb_over_white(picture, orientation))
    return Image.merge("RGB", [resized(turned_upright(_channel(picture, name), orientation)) for name in "RGB"])


def resized_size(size: tuple[int, int], preprocessing: ImagePreprocessing) -> tuple[int, int]:
    """(width, height) before the crop; the longer edge is rounded down."""
    if preprocessing.exact_size is not None:
        height, width = preprocessing.exact_size
        return width, height
    short, long = sorted(size)
    target = preprocessing.shortest_edge or short
    scaled = int(target * long / short)
    return (target, scaled) if size[0] <= size[1] else (scaled, target)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after the picture is turned upright; the same swap undoes it."""
    return size[::-1] if orientation in _QUARTER_TURNS else size


def turned_upright(picture: Image.Image, orientation: int) -> Image.Image:
    """The upright picture of a picture with this EXIF orientation."""
    return picture if orientation == 1 else picture.transpose(_UPRIGHT[orientation])


def rgb_over_white(picture: Image.Image, orientation: int = 1) -> Image.Image:
    """The upright picture in RGB over white: training uses a white picture for a missing image."""
    if picture.mode in WIDE_MODES:  # 16-bit greyscale; Pillow's own conversion would clip it to white
        samples = np.asarray(picture)
        grey = (samples >> 8).astype(np.uint8)
        if "transparency" in picture.info:
            grey[samples == picture.info["transparency"]] = 255
        picture = Image.fromarray(grey)
    elif "A" in picture.getbands() or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    return turned_upright(picture if picture.mode == "RGB" else picture.convert("RGB"), orientation)


def centre_crop(picture: Image.Image, preprocessing: ImagePreprocessing) -> Image.Image:
    """The centre, cut or padded with black to the size of `pixel_values`; the offsets are rounded down."""
    height, width = preprocessing.output_size
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _channel(picture: Image.Image, name: str) -> Image.Image:
    """One channel of the picture as RGB over white, converted in bands of rows."""
    channel = Image.new("L", picture.size)
    rows = max(1, BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        channel.paste(rgb_over_white(picture.crop(box)).getchannel(name), box)
    return channel
