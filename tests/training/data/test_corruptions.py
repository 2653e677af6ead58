"""Damaged pictures and texts: equal each time, stronger with the strength, and only of the modality that is damaged."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.data.corruptions import PICTURE_KINDS, STRENGTHS, TEXT_KINDS, with_damaged_picture, with_damaged_text
from training.data.examples import Example

TEXT = "a small red apple on a wooden table beside the green pears"


def picture(size: tuple[int, int] = (60, 40)) -> bytes:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill="red")
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def item(**fields: object) -> Example:
    return Example(**{"row": 3, "image": picture(), "text": TEXT, "labels": ("apple",), **fields})


def pixels(example: Example) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(example.image)).convert("RGB"), float)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_a_picture_is_damaged_alike_each_time_and_the_text_stays(kind, strength):
    first, again = (with_damaged_picture(item(), kind, strength) for _ in range(2))
    assert first == again
    assert first.image != item().image
    assert (first.text, first.labels, first.row) == (TEXT, ("apple",), 3)
    assert kind == "blurred" or with_damaged_picture(item(row=4), kind, strength).image != first.image


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_is_damaged_alike_each_time_and_the_picture_stays(kind, strength):
    first, again = (with_damaged_text(item(), kind, strength) for _ in range(2))
    assert first == again
    assert first.image == item().image
    others = {with_damaged_text(item(row=row), kind, strength).text for row in range(20)}
    assert len(others) > 5


@pytest.mark.parametrize("kind", ["blurred", "noisy"])
def test_more_strength_is_farther_from_the_picture(kind):
    whole = pixels(item())
    distances = [np.abs(pixels(with_damaged_picture(item(), kind, each)) - whole).mean() for each in STRENGTHS]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_more_strength_keeps_less_of_the_picture():
    sizes = [pixels(with_damaged_picture(item(), "cropped", each)).shape[:2] for each in STRENGTHS]
    assert sizes == [(36, 54), (28, 42), (20, 30)]


def test_more_strength_leaves_fewer_words_and_more_mistakes():
    def whole_words(kind: str, strength: int) -> int:
        texts = [with_damaged_text(item(row=row), kind, strength).text.split() for row in range(50)]
        return sum(word in TEXT.split() for words in texts for word in words)

    for kind in TEXT_KINDS:
        counts = [whole_words(kind, strength) for strength in STRENGTHS]
        assert 50 * 12 > counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize("text", ["a", "apple", "ä", "苹果", "a b", "x" * 5000, " spaced   out "])
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_some_text_is_left_whatever_it_was(kind, text):
    for strength in STRENGTHS:
        for row in range(20):
            assert with_damaged_text(item(text=text, row=row), kind, strength).text.strip()


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (3000, 2), (1500, 1200)])
@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_a_picture_of_any_size_stays_a_picture(kind, size):
    for strength in STRENGTHS:
        assert pixels(with_damaged_picture(item(image=picture(size)), kind, strength)).size > 0


def test_a_file_is_damaged_as_its_content_is(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    for kind in PICTURE_KINDS:
        assert with_damaged_picture(item(image=path), kind, 2).image == with_damaged_picture(item(), kind, 2).image


def test_a_modality_that_is_absent_stays_so():
    for kind in PICTURE_KINDS:
        assert with_damaged_picture(item(image=None), kind, 1) == item(image=None)
    for kind in TEXT_KINDS:
        assert with_damaged_text(item(text=None), kind, 1) == item(text=None)
