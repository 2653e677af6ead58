"""Pictures and texts become tensors as transformers' processors make them, and as the service will make them again."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from model_store import Padding, blob_of
from model_store.items.pictures import decode, pixel_values
from service.models.tokenizer import TextTokenizer
from training.errors import BackboneError, DataError
from training.model.backbones import load_backbone, load_backbone_config
from training.model.preprocessing import Preprocessor, rgb_over_white

TEXTS = [
    "",
    " ",
    "a red apple",
    "A RED\nApple's picture, it's 42!",
    "x" * 100,
    "red " * 100,
    "café CAFÉ İstanbul ß 日本語 👩‍👩‍👧‍👦",
    "<|startoftext|> red <|endoftext|>",
    "</s> red </s> <unk> <pad>",
    "null\x00byte",
]


def preprocessor_of(backbone: Path) -> Preprocessor:
    return Preprocessor(str(backbone), load_backbone_config(str(backbone)))


@pytest.fixture(scope="module")
def clip(tiny_backbone: Path) -> Preprocessor:
    return preprocessor_of(tiny_backbone)


@pytest.fixture(scope="module")
def siglip(tiny_siglip: Path) -> Preprocessor:
    return preprocessor_of(tiny_siglip)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def preprocessor(request: pytest.FixtureRequest) -> Preprocessor:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served(preprocessor: Preprocessor) -> TextTokenizer:
    """The service's tokenizer, from what the manifest would say."""
    description = preprocessor.text_description()
    return TextTokenizer(preprocessor.tokenizer_file(), description.max_length, description.padding)


@pytest.fixture
def siglip_with(tiny_siglip: Path, tmp_path: Path) -> Callable[..., Path]:
    """`siglip_with(normalizer=..., **tokenizer_config)`: a copy of the tiny SigLIP; None leaves a setting out."""

    def copy(normalizer: object = ..., **changes: object) -> Path:
        folder = tmp_path / "siglip"
        shutil.copytree(tiny_siglip, folder)
        pipeline, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
        if normalizer is not ...:
            pipeline.write_text(json.dumps({**json.loads(pipeline.read_text()), "normalizer": normalizer}))
        values = {**json.loads(config.read_text()), **changes}
        config.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
        return folder

    return copy


@pytest.mark.parametrize(
    ("backbone", "processor"), [("tiny_backbone", CLIPImageProcessorPil), ("tiny_siglip", SiglipImageProcessorPil)]
)
def test_an_image_equals_the_backbones_processors(
    request: pytest.FixtureRequest, png: Callable[..., bytes], backbone: str, processor: Any
) -> None:
    folder, data = request.getfixturevalue(backbone), png(1, (57, 41))

    expected = processor.from_pretrained(folder)(Image.open(BytesIO(data)))["pixel_values"][0]

    np.testing.assert_array_equal(preprocessor_of(folder).image(data).numpy(), expected)


@pytest.mark.parametrize("size", [(57, 41), (41, 57), (32, 32), (5, 90), (300, 200)])
def test_an_image_equals_the_services(
    preprocessor: Preprocessor, png: Callable[..., bytes], size: tuple[int, int]
) -> None:
    data, description = png(2, size), preprocessor.image_description()

    served = pixel_values(decode(data, 10**6, description), description)[0]

    np.testing.assert_allclose(preprocessor.image(data).numpy(), served, rtol=0, atol=1e-6)


def test_siglips_images_are_resized_whatever_their_shape(siglip: Preprocessor) -> None:
    description = siglip.image_description()

    assert (description.exact_size, description.shortest_edge, description.crop) == ((32, 32), None, None)
    assert description.mean == description.std == (0.5, 0.5, 0.5)


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


def test_texts_equal_the_clip_tokenizers(clip: Preprocessor, tiny_backbone: Path) -> None:
    texts = ["a red apple", "", "Red  RED\tred", "x" * 100]
    tokenizer = CLIPTokenizer.from_pretrained(tiny_backbone)

    expected = tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")["input_ids"]

    tokens = clip.texts(texts)
    assert tokens.input_ids.equal(expected)
    assert tokens.last_token.equal((expected == 1).int().argmax(dim=1))  # the first end token; those behind it pad


def test_siglips_texts_are_lower_case_without_punctuation_and_padded_to_the_end(
    siglip: Preprocessor, tiny_siglip: Path
) -> None:
    number = Tokenizer.from_file(str(tiny_siglip / "tokenizer.json")).token_to_id
    words = [number(piece) for piece in ("\u2581a", "\u2581red", "\u2581picture")]

    tokens = siglip.texts(["A  RED, picture!", None, "red " * 100])

    assert tokens.input_ids.tolist() == [words + [1] * 13, [1] * 16, [words[1]] * 15 + [1]]
    assert tokens.last_token.tolist() == [15, 15, 15]


def test_only_a_tower_that_is_not_causal_is_padded_when_served(clip: Preprocessor, siglip: Preprocessor) -> None:
    assert clip.text_description().padding is None
    assert siglip.text_description().padding == Padding(length=16, token=1)


def test_a_missing_text_is_the_empty_one(preprocessor: Preprocessor) -> None:
    assert preprocessor.texts([None]).input_ids.equal(preprocessor.texts([""]).input_ids)


def assert_served_alike(preprocessor: Preprocessor, served: TextTokenizer, texts: list[str]) -> None:
    tokens = preprocessor.texts([*texts])
    for text, ids, last in zip(texts, tokens.input_ids, tokens.last_token, strict=True):
        expected = served.tokenize(text)
        assert expected.last_token.tolist() == [int(last)]
        assert expected.input_ids.tolist() == [ids[: int(last) + 1].tolist()]


def test_texts_equal_the_services(preprocessor: Preprocessor, served: TextTokenizer) -> None:
    assert_served_alike(preprocessor, served, TEXTS)


@settings(deadline=None, max_examples=100)
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_texts_equal_the_services(preprocessor: Preprocessor, served: TextTokenizer, texts: list[str]) -> None:
    assert_served_alike(preprocessor, served, texts)


@pytest.mark.parametrize("text", ["red <|endoftext|> red", "red </s> red"])
def test_special_tokens_in_a_text_are_plain_text(preprocessor: Preprocessor, text: str) -> None:
    tokens = preprocessor.texts([text])
    end = preprocessor.texts([""]).input_ids[0, -1]

    words = tokens.input_ids[0][: int((tokens.input_ids[0] == end).nonzero()[0])]
    assert len(words) > 3


def test_a_worker_process_tokenises_alike(preprocessor: Preprocessor) -> None:
    """A loader that spawns its workers pickles the preprocessor."""
    copy = pickle.loads(pickle.dumps(preprocessor))  # noqa: S301

    assert copy.texts([*TEXTS]).input_ids.equal(preprocessor.texts([*TEXTS]).input_ids)


def test_the_tokenizer_file_neither_cuts_nor_pads(preprocessor: Preprocessor) -> None:
    preprocessor.texts(["a red picture"])

    tokenizer = Tokenizer.from_str(preprocessor.tokenizer_file().decode())

    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    assert preprocessor.text_description().tokenizer == blob_of(preprocessor.tokenizer_file())


def test_siglip_2_is_lower_cased_though_its_files_do_not_say_so(siglip_with: Callable[..., Path]) -> None:
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    backbone = siglip_with(normalizer=spaces, tokenizer_class="GemmaTokenizer", do_lower_case=None, padding_side="left")

    preprocessor = preprocessor_of(backbone)

    ids = preprocessor.texts(["a RED Picture", "a red picture"]).input_ids
    assert ids[0].equal(ids[1])
    assert ids[0, -1] == 1
    served = TextTokenizer(preprocessor.tokenizer_file(), 16, preprocessor.text_description().padding)
    assert_served_alike(preprocessor, served, TEXTS)


@pytest.mark.parametrize("normalizer", [None, {"type": "Strip", "strip_left": True, "strip_right": True}])
def test_a_tokenizer_that_keeps_case_is_left_alone(siglip_with: Callable[..., Path], normalizer: object) -> None:
    preprocessor = preprocessor_of(siglip_with(normalizer=normalizer, do_lower_case=False))

    upper, lower = preprocessor.texts(["RED", "red"]).input_ids

    assert not upper.equal(lower)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_says_so(clip: Preprocessor, data: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        clip.image(data)


def test_a_truncated_image_file_is_named(clip: Preprocessor, tmp_path: Path, png: Callable[..., bytes]) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(1)[:200])

    with pytest.raises(DataError, match=r"cut\.png cannot be decoded"):
        clip.image(path)


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
def test_a_backbone_without_processors_is_named(request: pytest.FixtureRequest, tmp_path: Path, backbone: str) -> None:
    config = load_backbone_config(str(request.getfixturevalue(backbone)))

    with pytest.raises(BackboneError, match=r"preprocessor_config\.json .*copy it from the model's repository"):
        Preprocessor(str(tmp_path), config)


def test_siglip_needs_its_tokenizer_json_even_where_sentencepieces_file_is(siglip_with: Callable[..., Path]) -> None:
    backbone = siglip_with()
    (backbone / "tokenizer.json").rename(backbone / "spiece.model")

    with pytest.raises(BackboneError, match=r"does not appear to have a file named tokenizer\.json"):
        preprocessor_of(backbone)


def test_siglip_needs_a_token_to_pad_with(siglip_with: Callable[..., Path]) -> None:
    with pytest.raises(BackboneError, match="names no pad_token"):
        preprocessor_of(siglip_with(pad_token=None))


def test_a_clip_without_a_tokenizer_is_refused_not_given_an_empty_one(tiny_backbone: Path, tmp_path: Path) -> None:
    names = ("config.json", "preprocessor_config.json")
    for name in names:
        shutil.copy(tiny_backbone / name, tmp_path / name)

    with pytest.raises(BackboneError, match=r"does not appear to have a file named tokenizer\.json\); copy it"):
        Preprocessor(str(tmp_path), load_backbone_config(str(tmp_path)))


@pytest.mark.parametrize("weights", [b"", b"no weights", b"\xff" * 100])
def test_damaged_weights_are_named(tiny_backbone: Path, tmp_path: Path, weights: bytes) -> None:
    shutil.copy(tiny_backbone / "config.json", tmp_path / "config.json")
    (tmp_path / "model.safetensors").write_bytes(weights)

    with pytest.raises(BackboneError, match="does not hold a whole transformers model; copy"):
        load_backbone(str(tmp_path))
