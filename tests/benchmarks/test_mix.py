"""The recorded mix is what issue and page say of it."""

from __future__ import annotations

import base64
import json
from io import BytesIO

from PIL import Image
from tokenizers import Tokenizer

from benchmarks.mix import SIZE, TEXT_TOKENS, TOKENIZER, read_mix
from model_store import Pattern


def test_any_six_in_a_row_hold_two_of_each_pattern() -> None:
    patterns = [item.pattern for item in read_mix().items]

    assert len(patterns) == 120
    for start in range(0, len(patterns), 6):
        assert sorted(patterns[start : start + 6]) == sorted([*Pattern] * 2)


def test_every_picture_is_another_jpeg_of_typical_size() -> None:
    pictures = [item.image for item in read_mix().items if item.image is not None]

    assert len(set(pictures)) == len(pictures) == 80
    for picture in pictures[:3]:
        with Image.open(BytesIO(picture)) as opened:
            assert (opened.format, opened.size) == ("JPEG", SIZE)


def test_a_body_holds_what_the_item_has() -> None:
    for item in read_mix().items[:6]:
        fields = json.loads(item.body)
        assert fields.get("text") == item.text
        assert ("image" in fields) == (item.image is not None)
        assert item.image is None or base64.b64decode(fields["image"]) == item.image


def test_the_compared_text_has_twelve_tokens() -> None:
    text = read_mix().text.text
    assert text is not None

    assert len(Tokenizer.from_file(str(TOKENIZER)).encode(text).ids) == TEXT_TOKENS == 12
