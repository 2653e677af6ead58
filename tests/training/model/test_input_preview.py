"""The preview shows the pictures and tokens of training, whichever way its files are read.

Covers training.model.input_settings, training.model.backbone_files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.model.backbones import load_backbone_config
from training.model.input_preview import InputPreview, local_preview, open_preview
from training.model.preprocessing import Preprocessor

ROOT = Path(__file__).parents[3]
TEXTS = ["", "a red apple", "RED  red\tred", "x" * 100, "red " * 100, "<|endoftext|> red </s>", "café 日本語"]
BACKBONES = ["tiny_backbone", "tiny_siglip", "shipped"]


def folder_of(request: pytest.FixtureRequest, name: str) -> Path:
    if name == "shipped":
        return ROOT / "examples" / "openclipart" / "backbone"
    return Path(request.getfixturevalue(name))


def preprocessor_of(folder: Path) -> Preprocessor:
    return Preprocessor(str(folder), load_backbone_config(str(folder)))


def assert_equal(preview: InputPreview, preprocessor: Preprocessor) -> None:
    assert preview.image == preprocessor.image_description()
    assert preview.max_length == preprocessor.max_length
    for text, count in zip(TEXTS, preview.token_counts(TEXTS), strict=True):
        tokens = preprocessor.texts([text])
        if preprocessor.text_description().padding is None:
            assert min(count, preview.max_length) == int(tokens.last_token[0]) + 1


@pytest.mark.parametrize("name", BACKBONES)
def test_the_files_of_a_backbone_are_read_as_by_transformers(request: pytest.FixtureRequest, name: str) -> None:
    folder = folder_of(request, name)
    preview = local_preview(str(folder))

    assert preview is not None
    assert_equal(preview, preprocessor_of(folder))


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("preprocessor_config.json", {"size": 32}),
        ("preprocessor_config.json", {"do_center_crop": None}),
        ("preprocessor_config.json", {"image_mean": None}),
    ],
)
def test_fields_that_only_transformers_completes_are_left_to_it(
    tiny_backbone: Path, tmp_path: Path, file: str, changes: dict[str, Any]
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_backbone, folder)
    values = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    assert local_preview(str(folder)) is None
    assert_equal(open_preview(str(folder)), preprocessor_of(folder))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "[]"])
def test_a_missing_or_damaged_file_is_no_preview(
    tiny_backbone: Path, tmp_path: Path, name: str, content: str | None
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny_backbone, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)

    assert local_preview(str(folder)) is None


@pytest.mark.parametrize("backbone", ["nobody/no-such-model", "../gone", "not a name at all/x/y"])
def test_a_backbone_that_is_not_here_is_no_preview(backbone: str) -> None:
    assert local_preview(backbone) is None


@pytest.mark.parametrize("name", BACKBONES)
def test_a_picture_is_shown_as_it_was_before_normalisation(
    request: pytest.FixtureRequest, png: Callable[..., bytes], name: str
) -> None:
    preview = open_preview(str(folder_of(request, name)))
    size = preview.picture(None).size
    shown = preview.picture(png(3, size))

    assert np.asarray(preview.picture(None)).min() == 255
    with Image.open(BytesIO(png(3, size))) as original:
        difference = np.abs(np.asarray(shown, dtype=int) - np.asarray(original.convert("RGB"), dtype=int))
    assert difference.max() <= 1


@pytest.mark.parametrize("name", BACKBONES)
def test_words_are_those_that_fit(request: pytest.FixtureRequest, name: str) -> None:
    preview = open_preview(str(folder_of(request, name)))

    words = preview.words("red " * 500).split()

    assert set(words) == {"red"}
    assert preview.max_length - 2 <= len(words) <= preview.max_length
    assert preview.words(None) == ""
