"""From items to tensors, exactly as the service will do it; what it needs for that is described for the manifest."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from model_store import ImagePreprocessing, TextPreprocessing, blob_of
from training.errors import BackboneError, DataError

_RESAMPLE_NAMES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_WIDE_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
WHITE = Image.new("RGB", (64, 64), "white")


def rgb_over_white(image: Image.Image) -> Image.Image:
    """Upright RGB; transparency shows white, as a missing image is a white picture."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _WIDE_MODES:  # 16-bit greyscale; Pillow's own conversion would clip it to white
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


class Preprocessor:
    """The backbone's image processor and tokenizer. An absent image is a white picture, an absent text is ""."""

    def __init__(self, backbone: str, max_positions: int) -> None:
        try:
            self._processor = CLIPImageProcessorPil.from_pretrained(backbone)
            self._tokenizer = AutoTokenizer.from_pretrained(backbone)
        except (OSError, ValueError) as error:
            message = f"backbone: {backbone} lacks its preprocessor_config.json or tokenizer files ({error})"
            raise BackboneError(message) from error
        self.max_length = min(self._tokenizer.model_max_length, max_positions)
        self._white = self._pixels(WHITE)

    def image(self, image: bytes | Path | None) -> Tensor:
        """`pixel_values` (3, H, W) of one encoded image. Raises DataError when it cannot be decoded."""
        if image is None:
            return self._white
        try:
            with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as opened:
                return self._pixels(rgb_over_white(opened))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            name = "an image" if isinstance(image, bytes) else str(image)
            raise DataError(f"{name} cannot be decoded ({error}); replace it or leave the cell empty") from error

    def texts(self, texts: list[str | None]) -> Tensor:
        """`input_ids` (B, L), padded behind the end token to the longest; special tokens in a text are plain text."""
        encoded = self._tokenizer(
            [text or "" for text in texts],
            padding=True,
            truncation=True,
            max_length=self.max_length,
            split_special_tokens=True,
            return_tensors="pt",
        )
        return encoded["input_ids"]  # type: ignore[no-any-return]

    def _pixels(self, image: Image.Image) -> Tensor:
        return torch.as_tensor(self._processor(image, return_tensors="pt")["pixel_values"][0])

    def tokenizer_file(self) -> bytes:
        """The tokenizer as one `tokenizers` JSON file."""
        tokenizer = type(self._tokenizer.backend_tokenizer).from_str(self._tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer.to_str().encode()  # type: ignore[no-any-return]

    def text_description(self) -> TextPreprocessing:
        """What the service needs to tokenise alike."""
        return TextPreprocessing(tokenizer=blob_of(self.tokenizer_file()), max_length=self.max_length)

    def image_description(self) -> ImagePreprocessing:
        """What the service needs to prepare images alike. Raises BackboneError for settings it does not know."""
        processor = self._processor
        usual = processor.do_resize and processor.do_rescale and processor.do_normalize
        if not usual or abs(processor.rescale_factor * 255 - 1) > 1e-9:
            raise BackboneError("backbone: preprocessor_config.json must resize, rescale by 1/255 and normalise")
        size, crop = dict(processor.size), processor.crop_size if processor.do_center_crop else None
        return ImagePreprocessing(
            shortest_edge=size.get("shortest_edge"),
            exact_size=(size["height"], size["width"]) if size.get("height") else None,
            crop=(crop["height"], crop["width"]) if crop else None,
            resample=_RESAMPLE_NAMES[int(processor.resample)],  # type: ignore[arg-type]
            mean=tuple(processor.image_mean),
            std=tuple(processor.image_std),
        )
