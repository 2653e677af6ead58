"""Pictures and texts become tensors as transformers' CLIP processors make them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from training.errors import BackboneError, DataError
from training.preprocessing import Preprocessor, rgb_over_white


@pytest.fixture(scope="module")
def preprocessor(tiny_backbone: Path) -> Preprocessor:
    return Preprocessor(str(tiny_backbone), max_positions=24)


def test_an_image_equals_the_clip_processors(
    preprocessor: Preprocessor, tiny_backbone: Path, png: Callable[..., bytes]
) -> None:
    data = png(1, (57, 41))

    expected = CLIPImageProcessorPil.from_pretrained(tiny_backbone)(Image.open(BytesIO(data)))["pixel_values"][0]

    np.testing.assert_array_equal(preprocessor.image(data).numpy(), expected)


def test_a_missing_image_is_white_whatever_its_size(preprocessor: Preprocessor) -> None:
    file = BytesIO()
    Image.new("RGB", (33, 77), "white").save(file, "PNG")

    torch.testing.assert_close(preprocessor.image(None), preprocessor.image(file.getvalue()), rtol=0, atol=0)


def test_transparency_shows_white() -> None:
    transparent = Image.new("RGBA", (4, 4), (255, 0, 0, 0))

    assert rgb_over_white(transparent).getpixel((0, 0)) == (255, 255, 255)


def test_the_camera_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    file = BytesIO()
    image.save(file, "JPEG", exif=image.getexif())

    assert rgb_over_white(Image.open(file)).size == (2, 4)


def test_texts_equal_the_clip_tokenizers(preprocessor: Preprocessor, tiny_backbone: Path) -> None:
    texts = ["a red apple", "", "Red  RED\tred", "x" * 100]
    tokenizer = CLIPTokenizer.from_pretrained(tiny_backbone)

    expected = tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")["input_ids"]

    assert preprocessor.texts(texts).equal(expected)
    assert preprocessor.texts([None]).equal(preprocessor.texts([""]))


def test_special_tokens_in_a_text_are_plain_text(preprocessor: Preprocessor) -> None:
    ids = preprocessor.texts(["red <|endoftext|> red"])[0]

    assert (ids == 1).sum() == 1
    assert ids[-1] == 1


def test_the_tokenizer_file_tokenises_alike(preprocessor: Preprocessor) -> None:
    tokenizer = Tokenizer.from_str(preprocessor.tokenizer_file().decode())

    assert tokenizer.encode("a red apple").ids == preprocessor.texts(["a red apple"])[0].tolist()
    assert tokenizer.truncation is None
    assert tokenizer.padding is None


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_says_so(preprocessor: Preprocessor, data: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        preprocessor.image(data)


def test_a_truncated_image_file_is_named(preprocessor: Preprocessor, tmp_path: Path, png: Callable[..., bytes]) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(1)[:200])

    with pytest.raises(DataError, match=r"cut\.png cannot be decoded"):
        preprocessor.image(path)


def test_a_backbone_without_processors_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="preprocessor_config"):
        Preprocessor(str(tmp_path), max_positions=24)
