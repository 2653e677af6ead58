"""A backbone's inputs as people see them: pictures at the model's size, texts cut at its length. It needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from model_store import ImagePreprocessing
from model_store.items.pictures import pixel_values
from model_store.items.pixels import fit, normalised
from training.errors import picture_errors
from training.model.backbone_files import backbone_file, read_json_file
from training.model.input_settings import image_preprocessing, lower_cased

_WHITE = Image.new("RGB", (64, 64), "white")
_UNLIMITED = 10**30  # of a tokenizer without model_max_length
_POSITIONS = {"clip": 77, "siglip": 64}  # transformers' default
_CROPS = {"clip": None, "siglip": False}  # transformers' default for do_center_crop; None: it must be given


class InputPreview:
    """The preprocessing of a backbone without tensors: the pictures and tokens that `Preprocessor` makes."""

    def __init__(self, image: ImagePreprocessing, tokenizer: Tokenizer, max_length: int) -> None:
        self.image, self.max_length = image, max_length
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # a special token that a text spells out is plain text
        self._marks = self.token_counts([""])[0]  # tokens for start and end

    def picture(self, image: bytes | Path | None) -> Image.Image:
        """The picture that the model sees, white for None. Raises DataError."""
        pixels: NDArray[np.float32] = normalised(fit(_WHITE, self.image), self.image)
        if image is not None:
            with picture_errors(image):
                pixels = pixel_values(image, self.image)
        mean, std = (
            np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (self.image.mean, self.image.std)
        )
        levels = ((pixels * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(levels.transpose(1, 2, 0))

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each whole text, with those for start and end."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch([*texts])]

    def words(self, text: str | None) -> str:
        """The part of a text that the model reads."""
        ids = self._tokenizer.encode(text or "", add_special_tokens=False).ids[: self.max_length - self._marks]
        return str(self._tokenizer.decode(ids)).replace("</w>", " ").strip()


def open_preview(backbone: str) -> InputPreview:
    """The preview of a backbone. Raises BackboneError."""
    preview = local_preview(backbone)
    if preview is not None:
        return preview
    from training.model.backbones import load_backbone_config  # imports torch, which usual files do not need
    from training.model.preprocessing import Preprocessor

    preprocessor = Preprocessor(backbone, load_backbone_config(backbone))
    tokenizer = Tokenizer.from_str(preprocessor.tokenizer_file().decode())
    return InputPreview(preprocessor.image_description(), tokenizer, preprocessor.max_length)


def local_preview(backbone: str) -> InputPreview | None:
    """The preview from files on this machine; None if one is missing, or only transformers knows how to read it."""
    names = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
    config, processor, settings = (read_json_file(backbone_file(backbone, name, may_fetch=False)) for name in names)
    pipeline = backbone_file(backbone, "tokenizer.json", may_fetch=False)
    if config is None or processor is None or settings is None or pipeline is None:
        return None
    family = str(config.get("model_type"))
    if family not in _POSITIONS:
        return None
    try:
        image = image_preprocessing({"do_center_crop": _CROPS[family]} | processor)
        tokenizer = Tokenizer.from_file(str(pipeline))
        positions = (config.get("text_config") or {}).get("max_position_embeddings", _POSITIONS[family])
        length = min(int(settings.get("model_max_length", _UNLIMITED)), positions)
    except Exception:  # tokenizers raises bare Exception
        return None
    if family == "siglip" and settings.get("do_lower_case", True):
        tokenizer.normalizer = lower_cased(tokenizer)
    return InputPreview(image, tokenizer, length)
