"""The pretraining of the example's backbone, and its pictures and texts."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, Dinov2Config, Dinov2Model

from examples.openclipart import icons, inheritance
from examples.openclipart import pretrain as pretraining
from examples.openclipart.architecture import SIZES
from examples.openclipart.distillation import Budget
from examples.openclipart.icons import set_sources
from examples.openclipart.pictures import gather, without_test_items
from examples.openclipart.texts import Text, emoji_names, wordnet_glosses

NOUNS = """  1 a line of the licence
00001740 03 n 01 entity 0 000 | that which is perceived; "it exists"
00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | an entity that has physical existence
"""


def names(folder: Path, language: str, of: dict[str, str]) -> None:
    file = folder / "cldr-annotations-modern" / "annotations" / language / "annotations.json"
    file.parent.mkdir(parents=True)
    annotations = {emoji: {"default": [name], "tts": [name]} for emoji, name in of.items()}
    file.write_text(json.dumps({"annotations": {"identity": {}, "annotations": annotations}}))


def test_the_names_of_emoji_mean_what_they_do_in_english(tmp_path):
    names(tmp_path, "en", {"🐶": "dog face"})
    names(tmp_path, "en-AU", {"🐶": "dog"})
    names(tmp_path, "de", {"🐶": "Hundegesicht", "🦤": "Dodo"})

    (only,) = emoji_names(tmp_path)

    assert (only.text, only.alone) == ("hundegesicht", "dog face")


def test_a_gloss_has_its_word_as_context(tmp_path):
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text(NOUNS if part == "noun" else "")

    first, second = wordnet_glosses(tmp_path)

    assert first.in_context == 'that which is perceived; "it exists". entity'
    assert second.context == "physical entity"


def icon_set(folder: Path, name: str, of: list[str]) -> None:
    file = folder / "@iconify-json" / name / "icons.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"icons": {icon: {"body": "<path/>"} for icon in of}, "height": 24}))


@pytest.mark.parametrize(
    ("name", "of", "captions"),
    [
        ("tabler", ["chess-knight", "chess-knight-filled", "comet-01"], ["chess knight", "comet"]),
        ("fluent", ["access-time-24-regular", "access-time-20-regular"], ["access time"]),
        ("noto", ["waving-hand", "waving-hand-dark-skin-tone"], ["waving hand"]),
    ],
)
def test_an_icon_is_used_in_one_style(tmp_path, monkeypatch, name, of, captions):
    icon_set(tmp_path, name, of)
    monkeypatch.setattr(icons, "ICON_SETS", (name,))

    assert [source.caption for source in set_sources(tmp_path)] == captions


def picture(value: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(value).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def row(image: Image.Image, source: str = "noto") -> dict:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"image": buffer.getvalue(), "caption": "a", "context": "b", "source": source}


def test_pictures_that_look_like_a_test_item_are_left_out():
    new, known = row(picture(1)), row(picture(2))
    almost = Image.fromarray(np.asarray(picture(2)) // 2 * 2)  # another file, the same to the eye

    kept = without_test_items([new, known, row(almost), new], 4, [picture(2), picture(3)])

    assert kept == [new]


def test_a_set_is_left_out_by_its_name(tmp_path):
    rows = [row(picture(1)), row(picture(2), "tabler")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pictures.parquet")

    assert gather(tmp_path, tmp_path, tmp_path, without=["noto"]) == rows[1:]
    with pytest.raises(ValueError, match="no set or theme is called nato"):
        gather(tmp_path, tmp_path, tmp_path, without=["nato"])


@pytest.mark.slow
def test_pretraining_writes_a_backbone_that_loads(tmp_path, monkeypatch):
    """Both towers take a few steps; the teachers have random weights."""
    texts = [Text(f"word {number}", "kind") for number in range(40)]
    rows = [row(picture(number)) | {"caption": text.text, "context": text.context} for number, text in enumerate(texts)]

    def embed(texts: list[str], device: str) -> np.ndarray:
        return np.random.default_rng(len(texts)).normal(size=(len(texts), 384)).astype(np.float16)

    monkeypatch.setattr(pretraining, "gather", lambda *_: rows)
    for name in ("wordnet_nouns", "wordnet_glosses", "emoji_names"):
        monkeypatch.setattr(pretraining, name, lambda *_, kind=name: [Text(f"{kind} {n}", "") for n in range(9)])
    for module in (pretraining, inheritance):
        monkeypatch.setattr(module, "embed_texts", embed)
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=196)
    monkeypatch.setattr(pretraining, "dino", lambda: Dinov2Model(config).eval())
    monkeypatch.setattr(
        pretraining, "Budget", lambda minutes, batch_size, learning_rate: Budget(1e-3, 8, learning_rate)
    )

    pretraining.pretrain(output=tmp_path / "out", cache=tmp_path / "cache", device="cpu")

    model = CLIPModel.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert model.config.vision_config.num_hidden_layers == len(SIZES["small"].image_layers)
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("word 7")["input_ids"]
    assert preprocessor_size(tmp_path / "out") == model.config.vision_config.image_size


def preprocessor_size(folder: Path) -> int:
    return json.loads((folder / "preprocessor_config.json").read_text())["size"]["height"]
