"""From the body of a request of OpenAI's API to its items."""

from __future__ import annotations

import base64
import json

import pytest

from service.api.item import Item
from service.api.openai import EmbeddingRequest, ModerationRequest
from service.errors import Code, ServiceError
from service.web.openai_inputs import parse_inputs
from tests.support.tiny import PICTURE

ENCODED = base64.b64encode(PICTURE).decode()
URI = f"data:image/png;base64,{ENCODED}"
FORMS = [ModerationRequest, EmbeddingRequest]


def text(content: object) -> dict:
    return {"type": "text", "text": content}


def image(url: object, **more: object) -> dict:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def items(value: object, form=ModerationRequest, max_items: int = 4, **fields: object) -> list[Item]:
    return [*parse_inputs(form, json.dumps({"input": value, **fields}).encode(), 100, max_items).items]


def refusal(value: object, **fields: object) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        items(value, **fields)
    return refused.value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("red", [Item(text="red")]),
        (["red"], [Item(text="red")]),
        (["red", "green", "red"], [Item(text="red"), Item(text="green"), Item(text="red")]),
        ([text("red")], [Item(text="red")]),
        ([image(URI)], [Item(image=PICTURE)]),
        ([image(URI), text("red")], [Item(PICTURE, "red")]),
        ([text("red"), image(URI)], [Item(PICTURE, "red")]),
        ([text(" \u200b"), image(URI)], [Item(image=PICTURE)]),
        ([text("red"), image("")], [Item(text="red")]),
    ],
)
def test_texts_are_items_and_parts_are_one_item(form, value, expected):
    assert items(value, form) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"DATA:image/png;base64,{ENCODED}",
        f" data:image/png;base64,{ENCODED}",
        f"data:image/jpeg;base64,{ENCODED}",
        f"data:;base64,{ENCODED}",
        f"data:image/png;charset=utf-8;base64,{ENCODED.rstrip('=')}",
    ],
)
def test_a_data_uri_is_read_in_every_form_that_an_image_field_takes(url):
    assert items([image(url)]) == [Item(image=PICTURE)]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "HTTPS://shop.example/a.png",
        "file:///etc/passwd",
        "ftp://shop.example/a.png",
        "//shop.example/a.png",
        "/a.png",
        "blob:https://shop.example/7",
        "datas:image/png;base64,QUJD",
        "view-source:data:image/png;base64,QUJD",
        ENCODED,
    ],
)
def test_any_other_url_is_refused(url):
    error = refusal([text("red"), image(url)])

    assert (error.code, error.field) == (Code.BAD_BASE64, "input")
    assert error.detail == "input.1: image_url.url: send the picture as a data: URI; the service fetches no URL."


@pytest.mark.parametrize(
    "value",
    [None, 7, True, {}, [], text("red"), [1, 2], [[1, 2], [3]], ["red", 1], ["red", text("red")], [["red"]], [None]],
)
@pytest.mark.parametrize("form", FORMS)
def test_other_inputs_are_refused_with_the_forms_that_are_read(form, value):
    error = refusal(value, form=form)

    assert (error.code, error.field) == (Code.BAD_VALUE, "input")
    assert error.detail.startswith("input: must be a text, a list of texts, or a list of the parts of one item. ")


@pytest.mark.parametrize(
    ("parts", "code", "detail"),
    [
        ([{}], "bad_value", "input.0: type: must be 'text' or 'image_url'."),
        ([text("red"), {"type": "input_image", "image_url": URI}], "bad_value", "input.1: type: must be"),
        ([{"type": ["text"]}], "bad_value", "input.0: type: must be"),
        ([{"type": "text"}], "bad_value", "input.0: text: is missing."),
        ([text(7)], "bad_value", "input.0: text: must be text (in quotes)."),
        ([text(None)], "bad_value", "input.0: text: must be text (in quotes)."),
        ([{"type": "image_url"}], "bad_value", "input.0: image_url: is missing."),
        ([{"type": "image_url", "image_url": URI}], "bad_value", "input.0: image_url: must be"),
        ([image(None)], "bad_value", "input.0: image_url.url: must be text (in quotes)."),
        ([image(URI, size=3)], "extra_field", "input.0: image_url has a field that the service does not know."),
        ([{**text("red"), "canary-7f3a": 1}], "extra_field", "input.0: The fields are type, text."),
        ([text("red"), text("green")], "bad_value", "input.1: an item has at most one text and one image; "),
        ([image(URI), text("red"), image(URI)], "bad_value", "input.2: an item has at most one text and one image; "),
        ([image("data:image/png;base64,QU!")], "bad_base64", "Item 0: Send base64"),
        ([image("data:text/html;base64,QUJD")], "bad_base64", "Item 0: Send base64"),
        ([text(" ")], "missing_input", "Item 0: Give an image, a text, or both."),
        (["red", "\u00a0", "green"], "missing_input", "Item 1: "),
        (["red", "a" * 101], "text_too_large", "Item 1: "),
        (["red", "\ud800"], "bad_text", "Item 1: "),
        (["a"] * 5, "bad_value", "input: a request may have 4 items; send several requests."),
    ],
)
def test_a_faulty_part_or_item_is_named(parts, code, detail):
    error = refusal(parts)

    assert (error.code, error.field) == (code, "input")
    assert error.detail.startswith(detail)
    assert "canary" not in error.detail


@pytest.mark.parametrize(
    "fields", [{"user": "u-7"}, {"user": None, "model": None, "version": None}, {"model": "fruit"}]
)
@pytest.mark.parametrize("form", FORMS)
def test_the_user_and_null_change_nothing(form, fields):
    assert items("red", form, **fields) == items("red")
    assert items([image(URI, detail="low")]) == items([image(URI, detail=None)]) == items([image(URI)])


@pytest.mark.parametrize(
    ("form", "fields", "field"),
    [
        (ModerationRequest, {"stream": True}, None),
        (ModerationRequest, {"encoding_format": "float"}, None),
        (ModerationRequest, {"task": "fruit"}, None),
        (EmbeddingRequest, {"store": False}, None),
        (EmbeddingRequest, {"encoding_format": "int8"}, "encoding_format"),
        (EmbeddingRequest, {"dimensions": "8"}, "dimensions"),
        (EmbeddingRequest, {"dimensions": True}, "dimensions"),
        (ModerationRequest, {"model": 7}, "model"),
        (ModerationRequest, {"user": 7}, "user"),
        (EmbeddingRequest, {"version": 0}, "version"),
        (EmbeddingRequest, {"timeout_ms": 0}, "timeout_ms"),
    ],
)
def test_other_fields_and_values_are_refused(form, fields, field):
    error = refusal("red", form=form, **fields)

    assert (error.code, error.field) == (Code.BAD_VALUE if field else Code.EXTRA_FIELD, field)


def test_a_request_without_input_is_refused():
    with pytest.raises(ServiceError) as refused:
        parse_inputs(EmbeddingRequest, b"{}", 100, 4)

    assert (refused.value.detail, refused.value.field) == ("input: is missing.", "input")
