"""Examples of each presence pattern, also of patterns that the data does not have."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import ExifTags, Image, PngImagePlugin

from model_store import Pattern
from training.data.examples import Example
from training.data.golden import GOLDEN_ITEMS, golden_items, pattern_items, small_png
from training.data.splits import Split


def split_of(*items: Example) -> Split:
    return Split("test", "made", [*items])


def test_an_item_stands_for_each_pattern_that_it_allows() -> None:
    both, image = Example(1, b"x", "words", ("a",)), Example(2, b"y", None, ("b",))
    examples = split_of(both, image, Example(3, None, "other words", ("c",)))

    assert pattern_items(examples, Pattern.BOTH) == [both]
    assert pattern_items(examples, Pattern.IMAGE) == [Example(1, b"x", None, ("a",)), image]
    assert [item.text for item in pattern_items(examples, Pattern.TEXT)] == ["words", "other words"]
    assert {item.image for item in pattern_items(examples, Pattern.TEXT)} == {None}


@pytest.mark.parametrize("pattern", [Pattern.BOTH, Pattern.IMAGE])
def test_a_made_up_picture_stands_in_for_data_without_images(pattern: Pattern) -> None:
    (item,) = pattern_items(split_of(Example(1, None, "words", ("a",))), pattern)

    assert isinstance(item.image, bytes)
    assert Image.open(BytesIO(item.image)).size == (256, 256)
    assert (item.text is None) == (pattern is Pattern.IMAGE)


def test_a_few_items_of_every_pattern_are_golden(png: Callable[..., bytes]) -> None:
    items = [Example(row, png(row), f"text {row}", ("a",)) for row in range(1, 5)]

    golden = golden_items(split_of(*items))

    assert [(pattern, item.row) for pattern, item in golden] == [
        (pattern, row) for pattern in Pattern for row in range(1, GOLDEN_ITEMS + 1)
    ]


def test_a_golden_picture_is_the_whole_picture_as_a_small_png(png: Callable[..., bytes]) -> None:
    picture = Image.open(BytesIO(small_png(png(1, (1024, 512)))))

    assert (picture.format, picture.size) == ("PNG", (256, 128))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_golden_picture_has_no_comments_and_no_exif_of_its_source(file_format: str) -> None:
    exif, texts, file = Image.Exif(), PngImagePlugin.PngInfo(), BytesIO()
    exif[ExifTags.Base.ImageDescription] = "taken by nobody"
    texts.add_text("comment", "taken by nobody")
    options = {"PNG": {"pnginfo": texts}, "JPEG": {"comment": b"taken by nobody"}, "WEBP": {}}[file_format]
    Image.new("RGB", (300, 200)).save(file, file_format, exif=exif, **options)
    assert b"nobody" in file.getvalue()

    assert b"nobody" not in small_png(file.getvalue())
