"""Cleaning and splitting of the openclipart example."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel

from examples.openclipart.cleaning import (
    clean_description,
    clean_keywords,
    clean_title,
    split_key,
    split_of,
    words_of_file_name,
)
from examples.openclipart.drawings import Drawing, on_white, rdf_fields, without_duplicates

ROOT = Path(__file__).parents[2]
SVG = """<svg><metadata><rdf:RDF><dc:title>Candied
Apples</dc:title><dc:description></dc:description>
<dc:subject><rdf:Bag><rdf:li>food</rdf:li><rdf:li>fruit
</rdf:li></rdf:Bag></dc:subject>
<dc:publisher><dc:title>A Library</dc:title></dc:publisher>
<dc:creator><cc:Agent><dc:title>Dan Gerhards</dc:title></cc:Agent></dc:creator></rdf:RDF></metadata></svg>"""


@pytest.mark.parametrize(
    ("title", "stem", "creator", "expected"),
    [
        ("An_Apple &amp; a pear ", "x", None, "An Apple & a pear"),
        ("Lemon SVG theme", "folder_favorite", None, "folder favorite"),
        ("Clipart by Nicu Buculei - piggybank", "lightsabers", None, "lightsabers"),
        ("gramastar", "star_63pt11step", None, "star"),
        (None, "apple_bitten_dan_gerhard_01", "Dan Gerhards", "apple bitten"),
        ("AIGA_Symbol_Signs", "aiga_bus1", None, "bus"),
        ("", "70a002", None, None),
    ],
)
def test_a_title_is_what_the_drawing_shows_not_where_it_is_from(title, stem, creator, expected):
    assert clean_title(title, stem, creator) == expected


def test_a_file_name_keeps_its_words_when_the_author_is_another():
    assert words_of_file_name("unsortedList_dan_01", "Nicu Buculei") == "unsorted list dan"


@pytest.mark.parametrize(
    "boilerplate", ["HASH(0x85caca8)", "someone@example.com", "Created with the Inkscape", "Apple", "", None]
)
def test_a_description_that_says_nothing_is_absent(boilerplate):
    assert clean_description(boilerplate, "apple") is None


def test_a_description_loses_only_its_addresses():
    assert clean_description("An orca, see http://example.com now", "Orca") == "An orca, see now"


def test_keywords_are_words_without_authors_and_file_names():
    raw = ["Flags", "flag", "hash(0x86a0bb0)", "roadsign", "Ganson", "lemon_theme_icon", "", "11"]

    assert clean_keywords(raw, "Gerald Ganson") == ["flag", "road sign"]


def test_near_duplicates_share_a_split():
    titles = ["Apple", "apple 2", "An Apple (B and W)", "apples bw"]

    assert {split_key(title, "x") for title in titles} == {"apple"}
    assert split_key("Apple Pie", "x") != "apple"
    assert split_key(None, "fc01") == split_key(None, "fc23")


def test_splits_have_their_shares_and_never_change():
    shares = Counter(split_of(f"title {i}") for i in range(10_000))

    assert shares["test"] == pytest.approx(2500, abs=150)
    assert shares["validation"] == pytest.approx(1200, abs=150)
    assert split_of("apple") == "test"


def test_metadata_is_read_from_the_drawings_own_fields():
    fields = rdf_fields(SVG)

    assert fields["title"] == "Candied\nApples"
    assert fields["creator"] == "Dan Gerhards"
    assert fields["keywords"] == "food\nfruit"
    assert rdf_fields("<svg/>")["title"] is None


def test_transparent_pixels_become_white():
    assert on_white(Image.new("RGBA", (1, 1), (200, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def drawing(path: str, digest: str, key: str, category: str | None = "food") -> Drawing:
    return Drawing(Path(path), b"", digest, key, None, [], category, key)


def test_a_picture_is_kept_once_and_where_its_folder_means_something():
    twice = [drawing("a/x", "same", "x", None), drawing("food/x", "same", "x"), drawing("food/y", "other", "y")]

    assert [str(kept.path) for kept in without_duplicates(twice)] == ["food/x", "food/y"]


def test_no_title_floods_the_data():
    stars = [drawing(f"shapes/{i}", str(i), "star") for i in range(100)]

    assert len(list(without_duplicates(stars))) == 25


@pytest.mark.parametrize("name", ["backbone", "clean_backbone"])
def test_the_card_of_a_backbone_states_its_size(name):
    folder = ROOT / "examples/openclipart" / name
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    side, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6

    card = " ".join((folder / "README.md").read_text().split())

    assert re.search(rf"of {millions:.1f}\d? million parameters", card)
    assert f"{side} x {side} pixels" in card
    assert f"at most {length} tokens" in card
    assert AutoTokenizer.from_pretrained(folder).model_max_length == length
    assert all(weight.isfinite().all() for weight in model.parameters())
