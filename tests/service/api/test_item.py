"""An item, or the error of its fields."""

from __future__ import annotations

import pytest

from service.api.item import Item, parse_item
from service.api.requests import BatchRequest, validate
from service.errors import Code, ServiceError


@pytest.mark.parametrize(
    ("fields", "item"),
    [
        ({"text": "red"}, Item(None, "red")),
        ({"image": "cGljdHVyZQ==", "text": ""}, Item(b"picture", None)),
        ({"image": b"picture", "text": "\u2028"}, Item(b"picture", None)),
        ({"image": b"picture", "text": float("nan")}, Item(b"picture", None)),
        ({"image": " \n", "text": "red"}, Item(None, "red")),
        ({"image": b"picture", "text": "rot"}, Item(b"picture", "rot")),
        ({"text": "\u00e4\u00e4"}, Item(None, "\u00e4\u00e4")),
    ],
)
def test_fields_make_an_item(fields, item):
    assert parse_item(fields, max_text_bytes=4) == item


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ([], Code.BAD_VALUE, "An input must be a JSON object."),
        ({"text": " \t\u00a0\u3000"}, Code.MISSING_INPUT, "Give an image, a text, or both."),
        ({"text": "\u200b\ufeff\u2060"}, Code.MISSING_INPUT, "Give an image, a text, or both."),
        ({"text": [], "image": b"picture"}, Code.BAD_VALUE, "text: must be text"),
        ({"text": "", "image": None}, Code.MISSING_INPUT, "Give an image, a text, or both."),
        ({"text": "\u00e4\u00e4a"}, Code.TEXT_TOO_LARGE, "A text may have 4 bytes of UTF-8; shorten it."),
        ({"text": "\ud800"}, Code.BAD_TEXT, "half of a surrogate pair"),
        ({"text": "caf\udcff"}, Code.BAD_TEXT, "is not UTF-8"),
        ({"text": 5}, Code.BAD_VALUE, "text: must be text"),
        ({"image": "???"}, Code.BAD_BASE64, "Send base64"),
        ({"txet": "red"}, Code.EXTRA_FIELD, "The fields are image, text."),
    ],
)
def test_fields_that_make_no_item_have_an_error(fields, code, detail):
    refused = parse_item(fields, max_text_bytes=4)

    assert isinstance(refused, ServiceError)
    assert refused.code is code
    assert detail in refused.detail


def test_an_error_never_repeats_the_request():
    with pytest.raises(ServiceError) as refused:
        validate(BatchRequest, {"inputs": [{}], "tasks": ["secret", 5]}, strict=True)

    assert refused.value.code is Code.BAD_VALUE
    assert refused.value.detail == "tasks.1: must be text (in quotes)."
