"""The backbone's shape, its tokenizer and its image processor, in transformers' CLIP format."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

IMAGE_SIZE = 112
PATCH_SIZE = 14  # DINOv2's
TEXT_LAYERS = 6
PROJECTION = 256
TEXT_LENGTH = 77
VOCABULARY = 12000
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Size:
    """The parts of a backbone that differ by its size."""

    text_width: int
    image_layers: tuple[int, ...]  # by their number in DINOv2 small
    image_hidden: int  # units of the MLP in each layer of the image tower; DINOv2 has 1,536


SIZES = {
    "small": Size(192, (0, 1, 3, 11), 768),
    "medium": Size(256, (0, 1, 3, 6, 9, 11), 1024),
    "large": Size(384, tuple(range(12)), 1536),
}


def train_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """A lower-cased byte-level BPE in CLIP's layout: bytes, bytes that end a word, merges, start, end.

    Every byte has both pieces, so no token is unknown. CLIP's unknown token is the end token, at which CLIP pools.
    """
    backend = CLIPTokenizer().backend_tokenizer
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, min_frequency=2, initial_alphabet=bytes_, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    single = [*bytes_, *(byte + "</w>" for byte in bytes_)]
    learned = json.loads(backend.to_str())["model"]["merges"]
    merges = [(left, right) for left, right in learned][: VOCABULARY - len(single) - 2]
    pieces = [*single, *(left + right for left, right in merges), START, END]
    return CLIPTokenizer({piece: i for i, piece in enumerate(pieces)}, merges, model_max_length=TEXT_LENGTH)


def image_processor() -> CLIPImageProcessor:
    """An image processor that squeezes the whole picture into a square; cropping would cut drawings at their edges."""
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    return CLIPImageProcessor(size=size, do_center_crop=False, crop_size=size, resample=3)


def new_model(tokenizer: CLIPTokenizer, size: Size, seed: int) -> CLIPModel:
    torch.manual_seed(seed)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text_width,
        intermediate_size=4 * size.text_width,
        num_attention_heads=size.text_width // 64,
        num_hidden_layers=TEXT_LAYERS,
        max_position_embeddings=TEXT_LENGTH,
        projection_dim=PROJECTION,
        pad_token_id=tokenizer.eos_token_id,
        **ends,
    )
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=size.image_hidden,
        num_attention_heads=6,
        num_hidden_layers=len(size.image_layers),
        hidden_act="gelu",
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=PROJECTION,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=PROJECTION))


def save_backbone(folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """Write the folder. Weights are rounded to half precision, which halves the file."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).cpu().half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor().save_pretrained(folder)
