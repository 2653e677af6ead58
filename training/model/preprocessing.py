"""Images and texts as tensors, and the settings by which the service makes the same tensors."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, PreTrainedTokenizerFast, SiglipConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.utils import cached_file

from model_store import ImagePreprocessing, Padding, TextPreprocessing, blob_of
from model_store.items.pictures import pixel_values
from model_store.items.pixels import fit, normalised
from training.errors import PreprocessingMissingError, cause_of, picture_errors
from training.model.input_settings import image_preprocessing, lower_cased

_WHITE = Image.new("RGB", (64, 64), "white")


class TokenBatch(NamedTuple):
    """Token ids of texts (B, L), and the position (B,) of the token whose output is the text's feature."""

    input_ids: Tensor
    last_token: Tensor


class Preprocessor:
    """The backbone's image processor and tokenizer. An absent image is a white picture, an absent text is "".

    SigLIP's text tower is not causal. It gets every text padded to the full length, as in pretraining, and its feature
    is the output at the last position.
    """

    def __init__(self, backbone: str, config: CLIPConfig | SiglipConfig) -> None:
        siglip = isinstance(config, SiglipConfig)
        processor = SiglipImageProcessorPil if siglip else CLIPImageProcessorPil
        try:
            image_processor = processor.from_pretrained(backbone)
            self._tokenizer = _siglip_tokenizer(backbone) if siglip else _clip_tokenizer(backbone)
            self.max_length = int(min(self._tokenizer.model_max_length, config.text_config.max_position_embeddings))
        except (OSError, ValueError, ImportError) as error:
            cause = str(error).partition(". ")[0]
            message = f"backbone: {backbone} lacks its preprocessor_config.json or tokenizer.json ({cause})"
            raise PreprocessingMissingError(f"{message}; copy it from the model's repository on the hub") from error
        except Exception as error:  # transformers and tokenizers raise errors of many types for odd values
            files = "preprocessor_config.json, tokenizer.json or tokenizer_config.json"
            message = f"backbone: {backbone} has a {files} that cannot be used ({cause_of(error)})"
            raise PreprocessingMissingError(f"{message}; copy it again from the model's repository") from error
        self._image = image_preprocessing(
            image_processor.to_dict() | {"do_center_crop": bool(image_processor.do_center_crop)}
        )
        self._white = torch.from_numpy(normalised(fit(_WHITE, self._image), self._image))
        self._padding: Padding | None = None
        if siglip:
            self._tokenizer.padding_side = "right"
            self._padding = Padding(length=self.max_length, token=self._tokenizer.pad_token_id)

    def image(self, image: bytes | Path | None) -> Tensor:
        """`pixel_values` (3, H, W) of one encoded image or its file. Raises DataError."""
        if image is None:
            return self._white
        with picture_errors(image):
            return torch.from_numpy(pixel_values(image, self._image))

    def texts(self, texts: list[str | None]) -> TokenBatch:
        """Token ids, padded after the end token to the longest text or to the full length.

        A special token that a text spells out is read as plain text.
        """
        encoded = self._tokenizer(
            [text or "" for text in texts],
            padding=True if self._padding is None else "max_length",
            truncation=True,
            max_length=self.max_length,
            split_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        last = encoded["attention_mask"].sum(dim=1) - 1
        return TokenBatch(encoded["input_ids"], last if self._padding is None else last.fill_(self.max_length - 1))

    def tokenizer_file(self) -> bytes:
        """The tokenizer as one `tokenizers` JSON file."""
        tokenizer = copy.deepcopy(self._tokenizer.backend_tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer.to_str().encode()  # type: ignore[no-any-return]

    def text_description(self) -> TextPreprocessing:
        """The settings by which the service tokenises in the same way."""
        tokenizer = blob_of(self.tokenizer_file())
        return TextPreprocessing(tokenizer=tokenizer, max_length=self.max_length, padding=self._padding)

    def image_description(self) -> ImagePreprocessing:
        """The settings by which the service prepares images in the same way."""
        return self._image


def _clip_tokenizer(backbone: str) -> PreTrainedTokenizerFast:
    """CLIP's tokenizer. Raises OSError without its files: transformers would make a tokenizer with no vocabulary."""
    try:
        cached_file(backbone, "vocab.json")
    except OSError:
        cached_file(backbone, "tokenizer.json")
    return AutoTokenizer.from_pretrained(backbone)


def _siglip_tokenizer(backbone: str) -> PreTrainedTokenizerFast:
    """SigLIP's tokenizer.json with lower-casing, because SigLIP 1 and 2 were pretrained on lower-case text.

    The tokenizer class that the repository names is not used: the service cannot run the class of SigLIP 1, which is
    not a `tokenizers` pipeline, and the class of SigLIP 2 does not lower-case. Raises OSError or ValueError.
    """
    cached_file(backbone, "tokenizer.json")  # without it, transformers converts SentencePiece's file and loses rules
    tokenizer = PreTrainedTokenizerFast.from_pretrained(backbone)
    if tokenizer.pad_token_id is None:
        raise ValueError("tokenizer_config.json names no pad_token")
    if tokenizer.init_kwargs.get("do_lower_case", True):
        tokenizer.backend_tokenizer.normalizer = lower_cased(tokenizer.backend_tokenizer)
    return tokenizer
