"""Pictures and texts become the same tensors as by transformers' processors and in the service."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from tokenizers import Tokenizer
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from model_store import Padding, blob_of
from service.api.item import Item
from service.models.loaded_model import Model
from service.models.preparation import TextTokenizer
from training.errors import BackboneError, DataError
from training.model.backbones import load_backbone, load_backbone_config
from training.model.input_preview import local_preview
from training.model.preprocessing import Preprocessor

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
    """The service's tokenizer, from the description in the manifest."""
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


def smooth(mode: str, size: tuple[int, int]) -> Image.Image:
    """A picture of (width, height) that differs from side to side and channel to channel."""
    ramp = np.linspace(0, 255, 48 * 36).reshape(36, 48)
    channels = np.stack([ramp, ramp[::-1], ramp[:, ::-1], ramp], axis=-1).astype(np.uint8)
    return Image.fromarray(channels, "RGBA").resize(size, Image.Resampling.BICUBIC).convert(mode)


def wide_grey() -> Image.Image:
    return Image.fromarray((np.linspace(0, 2**16 - 1, 48 * 36).reshape(36, 48)).astype(np.uint16))


PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "RGB": (smooth("RGB", (57, 41)), "PNG", {}),
    "higher than wide": (smooth("RGB", (41, 57)), "PNG", {}),
    "of the model's size": (smooth("RGB", (32, 32)), "PNG", {}),
    "one pixel": (smooth("RGB", (1, 1)), "PNG", {}),
    "very wide": (smooth("RGB", (900, 2)), "PNG", {}),
    "very high": (smooth("RGB", (2, 900)), "PNG", {}),
    "transparent": (smooth("RGBA", (48, 36)), "PNG", {}),
    "transparent grey": (smooth("LA", (48, 36)), "PNG", {}),
    "palette": (smooth("P", (48, 36)), "PNG", {}),
    "palette with transparency": (smooth("P", (48, 36)), "PNG", {"transparency": 3}),
    "black and white": (smooth("1", (48, 36)), "PNG", {}),
    "16 bit": (wide_grey(), "PNG", {}),
    "small JPEG": (smooth("RGB", (100, 90)), "JPEG", {}),
    "grey JPEG": (smooth("L", (48, 36)), "JPEG", {}),
    "CMYK JPEG": (smooth("CMYK", (48, 36)), "JPEG", {}),
    "large JPEG": (smooth("RGB", (1003, 619)), "JPEG", {}),
    "large progressive JPEG": (smooth("RGB", (1003, 619)), "JPEG", {"progressive": True}),
    "WebP": (smooth("RGB", (300, 200)), "WEBP", {}),
    "transparent WebP": (smooth("RGBA", (48, 36)), "WEBP", {"lossless": True}),
    "GIF": (smooth("RGB", (300, 200)), "GIF", {}),
    "transparent GIF": (smooth("P", (48, 36)), "GIF", {"transparency": 3}),
    "animated GIF": (smooth("P", (48, 36)), "GIF", {"save_all": True, "append_images": [smooth("L", (48, 36))]}),
    "animated WebP": (smooth("RGB", (48, 36)), "WEBP", {"save_all": True, "append_images": [smooth("L", (48, 36))]}),
}


def prepared_by_the_service(preprocessor: Preprocessor, data: bytes) -> np.ndarray:
    """(1, 3, H, W) of a model whose manifest has the preprocessor's description."""
    manifest: Any = SimpleNamespace(image=preprocessor.image_description())
    unused: Any = None
    model = Model(manifest, unused, unused, unused, unused, 10**6, 10**9)
    pixels = model.prepare(Item(image=data)).pixel_values
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("turned", range(1, 9, 5))
@pytest.mark.parametrize("name", PICTURES)
def test_training_and_the_service_see_the_same_pixels(preprocessor: Preprocessor, name: str, turned: int) -> None:
    picture, file_format, options = PICTURES[name]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    file = BytesIO()
    picture.save(file, file_format, exif=exif, **options)

    served = prepared_by_the_service(preprocessor, file.getvalue())

    np.testing.assert_array_equal(preprocessor.image(file.getvalue()).numpy()[None], served, strict=True)


def test_siglips_images_are_resized_whatever_their_shape(siglip: Preprocessor) -> None:
    description = siglip.image_description()

    assert (description.exact_size, description.shortest_edge, description.crop) == ((32, 32), None, None)
    assert description.mean == description.std == (0.5, 0.5, 0.5)


def test_a_missing_image_is_white_whatever_its_size(preprocessor: Preprocessor) -> None:
    file = BytesIO()
    Image.new("RGB", (33, 77), "white").save(file, "PNG")

    torch.testing.assert_close(preprocessor.image(None), preprocessor.image(file.getvalue()), rtol=0, atol=0)


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


def test_a_worker_process_makes_the_same_tokens(preprocessor: Preprocessor) -> None:
    """A loader that spawns its workers pickles the preprocessor."""
    copy = pickle.loads(pickle.dumps(preprocessor))  # noqa: S301

    assert copy.texts([*TEXTS]).input_ids.equal(preprocessor.texts([*TEXTS]).input_ids)


def test_the_tokenizer_file_neither_cuts_nor_pads(preprocessor: Preprocessor) -> None:
    preprocessor.texts(["a red picture"])

    tokenizer = Tokenizer.from_str(preprocessor.tokenizer_file().decode())

    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    assert preprocessor.text_description().tokenizer == blob_of(preprocessor.tokenizer_file())


def test_siglip_2_is_lower_cased_although_its_files_do_not_configure_it(siglip_with: Callable[..., Path]) -> None:
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    backbone = siglip_with(normalizer=spaces, tokenizer_class="GemmaTokenizer", do_lower_case=None, padding_side="left")

    preprocessor = preprocessor_of(backbone)

    ids = preprocessor.texts(["a RED Picture", "a red picture"]).input_ids
    assert ids[0].equal(ids[1])
    assert ids[0, -1] == 1
    served = TextTokenizer(preprocessor.tokenizer_file(), 16, preprocessor.text_description().padding)
    assert_served_alike(preprocessor, served, TEXTS)


@pytest.mark.parametrize("normalizer", [None, {"type": "Strip", "strip_left": True, "strip_right": True}])
def test_a_tokenizer_that_keeps_case_is_not_changed(siglip_with: Callable[..., Path], normalizer: object) -> None:
    preprocessor = preprocessor_of(siglip_with(normalizer=normalizer, do_lower_case=False))

    upper, lower = preprocessor.texts(["RED", "red"]).input_ids

    assert not upper.equal(lower)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"no picture", "is not a JPEG, PNG, WebP, AVIF or GIF file"),
        (b"BM" + bytes(60), "is not a JPEG, PNG, WebP, AVIF or GIF file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is damaged or cut short"),
    ],
)
def test_an_unusable_picture_is_refused(clip: Preprocessor, data: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=f"an image {problem}; replace it, or leave the cell empty"):
        clip.image(data)


def test_a_picture_that_resizing_would_blow_up_is_refused(clip: Preprocessor, png: Callable[..., bytes]) -> None:
    with pytest.raises(DataError, match="an image has more than 50,000,000 pixels, before or after it is resized"):
        clip.image(png(1, (1, 60_000)))


def test_an_image_file_is_named(clip: Preprocessor, tmp_path: Path, png: Callable[..., bytes]) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(png(1)[:200])

    with pytest.raises(DataError, match=r"cut\.png is damaged or cut short"):
        clip.image(path)
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        clip.image(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"do_normalize": False}, r"preprocessor_config\.json must resize, rescale by 1/255 and normalise"),
        ({"image_std": None}, r"preprocessor_config\.json "),
        ({"resample": 9}, r"preprocessor_config\.json "),
        ({"rescale_factor": None}, r"preprocessor_config\.json "),
        ({"do_center_crop": False}, r"preprocessor_config\.json cannot be served: .*shortest_edge needs a crop"),
    ],
)
def test_an_image_processor_that_cannot_be_served_is_refused_at_load(
    tiny_backbone: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_backbone, folder)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    with pytest.raises(BackboneError, match=says):
        preprocessor_of(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "null"),
        ("tokenizer.json", "[" * 5000),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"model_max_length": "a"}'),
        ("preprocessor_config.json", "[]"),
    ],
)
def test_files_of_odd_content_are_named(tiny_backbone: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_backbone, folder)
    (folder / name).write_text(content)

    assert local_preview(str(folder)) is None
    with pytest.raises(BackboneError, match=f"{name}.*copy it( again)? from the model's repository"):
        preprocessor_of(folder)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"hidden_size": "x"}, "hidden_size"),
        ({"image_size": [64, 64]}, "TypeError"),
    ],
)
def test_a_configuration_of_odd_values_is_named(
    tiny_backbone: Path, tmp_path: Path, fields: dict[str, object], cause: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_backbone, folder)
    values = json.loads((folder / "config.json").read_text())
    values["vision_config"] |= fields
    (folder / "config.json").write_text(json.dumps(values))

    with pytest.raises(
        BackboneError, match=rf"has a config\.json that transformers cannot use \(.*{cause}.*; copy it again"
    ):
        load_backbone(str(folder))


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
def test_a_backbone_without_processors_is_named(request: pytest.FixtureRequest, tmp_path: Path, backbone: str) -> None:
    config = load_backbone_config(str(request.getfixturevalue(backbone)))

    with pytest.raises(BackboneError, match=r"preprocessor_config\.json .*copy it from the model's repository"):
        Preprocessor(str(tmp_path), config)


def test_siglip_needs_its_tokenizer_json_even_with_sentencepieces_file(siglip_with: Callable[..., Path]) -> None:
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
