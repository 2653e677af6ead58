"""Bodies in both forms make the same request. Invalid bodies over HTTP are in test_problems.py."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from starlette.requests import Request

from service.api.item import Item
from service.api.requests import ClassifyRequest, EmbedRequest
from service.errors import Code, ServiceError
from service.web.bodies import JSON, MULTIPART, parse_batch, parse_json, parse_request, read_body
from service.web.tensors import parse_inference

PICTURE = b"\x89PNG picture"


def form(**parts: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), content) for name, content in parts.items()) + b"--x--\r\n"


def test_json_and_form_make_the_same_request():
    fields = {"task": "fruit", "text": "a red apple", "top_k": 3, "explain": True}
    body = json.dumps({**fields, "image": base64.b64encode(PICTURE).decode()}).encode()
    parts = form(image=PICTURE, task=b"fruit", text=b"a red apple", top_k=b"3", explain=b"true")

    from_json = parse_request(ClassifyRequest, body, "Application/JSON; charset=utf-8", 100)

    assert from_json == parse_request(ClassifyRequest, parts, "multipart/form-data; boundary=x", 100)
    assert from_json == ClassifyRequest(image=PICTURE, **fields)


@pytest.mark.parametrize("blank", [" \r\n", "\u00a0\u3000", "\u200b", "\ufeff", "\u2060\u00ad\u200e"])
def test_a_blank_text_is_absent_in_every_body(blank):
    inputs = {"image": base64.b64encode(PICTURE).decode(), "text": blank}
    body = json.dumps(inputs, ensure_ascii=False).encode()
    parts = form(image=PICTURE, text=blank.encode())

    requests = [
        parse_request(ClassifyRequest, body, JSON, 100),
        parse_request(ClassifyRequest, parts, "multipart/form-data; boundary=x", 100),
        *parse_batch(json.dumps({"inputs": [inputs], "tasks": ["fruit"]}).encode(), 100, 5).inputs,
    ]

    assert [(request.image, request.text) for request in requests] == [(PICTURE, None)] * 3


@pytest.mark.parametrize("text", [b"a" * 101, b"\xff" * 101, "é".encode() * 51, b" " * 200 + b"a"])
def test_a_text_of_a_form_is_measured_before_it_is_decoded(text):
    with pytest.raises(ServiceError) as caught:
        parse_request(ClassifyRequest, form(text=text), "multipart/form-data; boundary=x", 100)
    assert caught.value.code is Code.TEXT_TOO_LARGE

    blank = parse_request(ClassifyRequest, form(image=PICTURE, text=b" " * 101), "multipart/form-data; boundary=x", 100)
    assert blank.text is None


@pytest.mark.parametrize("blank", [b"", b" ", b"\r\n\t"])
def test_a_blank_image_of_a_form_is_absent(blank):
    request = parse_request(ClassifyRequest, form(image=blank, text=b"red"), "multipart/form-data; boundary=x", 100)

    assert (request.image, request.text) == (None, "red")


def test_a_request_has_only_the_fields_of_its_form():
    with pytest.raises(ServiceError) as caught:
        parse_request(EmbedRequest, b'{"text": "red", "top_k": 3}', JSON, 100)

    assert (caught.value.code, caught.value.detail) == (
        Code.EXTRA_FIELD,
        "The fields are image, text, task, version, timeout_ms.",
    )


@pytest.mark.parametrize("name", ["file", "image[]", "picture", "Image", "img", "images"])
@pytest.mark.parametrize("form_of_request", [EmbedRequest, ClassifyRequest])
def test_a_part_of_another_name_is_named_before_its_content_is_read(name, form_of_request):
    body = form(**{"text": b"red", name: PICTURE})

    with pytest.raises(ServiceError) as caught:
        parse_request(form_of_request, body, "multipart/form-data; boundary=x", 100)

    assert caught.value.code is Code.EXTRA_FIELD
    fields = ", ".join(form_of_request.model_fields)
    assert caught.value.detail == f"The fields are {fields}. Did you mean image?"


@pytest.mark.parametrize("name", ["text", "task", "top_k"])
def test_a_part_that_is_not_text_is_named(name):
    with pytest.raises(ServiceError, match=f"{name}: Send UTF-8") as caught:
        parse_request(ClassifyRequest, form(**{name: PICTURE}), "multipart/form-data; boundary=x", 100)

    assert caught.value.code is Code.BAD_TEXT


@pytest.mark.parametrize(
    ("fields", "suggestion"), [({"picture": "?"}, "image"), ({"Image": 5}, "image"), ({"prompt": "red"}, "text")]
)
def test_an_input_of_a_batch_with_another_name_is_told_its_own(fields, suggestion):
    batch = parse_batch(json.dumps({"inputs": [{"text": "red"}, fields], "tasks": ["fruit"]}).encode(), 100, 5)

    assert batch.inputs[1].detail == f"The fields are image, text. Did you mean {suggestion}?"


def test_an_invalid_input_of_a_batch_is_replaced_by_its_error():
    inputs = [{"text": "red"}, {}, "red", {"text": "a" * 101}, {"image": "?"}]

    batch = parse_batch(json.dumps({"inputs": inputs, "tasks": ["fruit"]}).encode(), 100, 5)

    assert batch.inputs[0] == Item(text="red")
    assert [error.code for error in batch.inputs[1:]] == [
        Code.MISSING_INPUT,
        Code.BAD_VALUE,
        Code.TEXT_TOO_LARGE,
        Code.BAD_BASE64,
    ]


def test_a_batch_with_too_many_cells_is_refused():
    body = json.dumps({"inputs": [{"text": "red"}] * 3, "tasks": ["fruit", "tags"]}).encode()

    assert len(parse_batch(body, 100, 6).inputs) == 3
    with pytest.raises(ServiceError, match="may be 5"):
        parse_batch(body, 100, 5)


def tensor(data: list) -> dict:
    return {"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": data}


READERS = {
    "item": lambda fields: parse_request(ClassifyRequest, json.dumps(fields).encode(), JSON, 10**7),
    "batch": lambda fields: parse_batch(json.dumps({"inputs": [fields], "tasks": ["fruit"]}).encode(), 10**7, 256),
    "inference": lambda fields: parse_inference(json.dumps(fields).encode(), None, 10**7, 256),
    "binary inference": lambda fields: parse_inference(
        json.dumps(fields).encode() + b"a" * 9, str(len(json.dumps(fields))), 10**7, 256
    ),
}


REPEATED = {
    "item": b'{"text": "red", "text": "green"}',
    "escaped": b'{"text": "red", "t\\u0065xt": "green"}',
    "equal values": b'{"text": "red", "text": "red"}',
    "batch": b'{"inputs": [{"text": "red", "text": "green"}], "tasks": ["fruit"]}',
    "inference": b'{"inputs": [{"name": "text", "name": "image"}]}',
}


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_a_name_that_an_object_has_twice_is_refused_instead_of_reading_the_last(body):
    with pytest.raises(ServiceError, match="name more than once; send each name once") as caught:
        parse_json(body)

    assert caught.value.code is Code.BAD_JSON


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "value", [[[]] * 30_000, [{}] * 30_000, [""] * 30_000, [1] * 30_000, {str(name): 1 for name in range(30_000)}]
)
def test_json_of_many_values_is_refused_before_it_is_parsed(reader, value, monkeypatch):
    monkeypatch.setattr(json, "loads", None)

    with pytest.raises(ServiceError, match="may have 20000 commas, colons and opening brackets") as caught:
        READERS[reader]({"text": value})

    assert caught.value.code is Code.BAD_JSON


@pytest.mark.parametrize("text", ["," * 100_000, '[{"a":1},' * 20_000, '\\"' * 30_000, "\\," * 30_000])
def test_a_text_of_many_separators_is_one_value(text):
    assert READERS["item"]({"text": text}).text == text
    assert READERS["batch"]({"text": text}).inputs == [Item(text=text)]
    assert READERS["inference"]({"inputs": [tensor([text])]}).items == [Item(text=text)]


@pytest.mark.parametrize("max_cells", [256, 2_000])
def test_the_largest_batch_has_room_for_unknown_fields_that_are_named(max_cells):
    row = {f"column {number}": number for number in range(24)}
    body = json.dumps({"inputs": [row] * max_cells, "tasks": ["fruit"]}).encode()

    batch = parse_batch(body, 100, max_cells)

    assert [error.code for error in batch.inputs] == [Code.EXTRA_FIELD] * max_cells
    body = json.dumps({"inputs": [tensor([["red"]] * max_cells)]}).encode()
    with pytest.raises(ServiceError, match="may have 1 to"):  # the number of items is checked after all values
        parse_inference(body, None, 100, max_cells - 1)


@pytest.mark.parametrize("size", [1, 7, 20_000, 50_000])
def test_a_body_in_parts_of_any_size_is_read_as_it_was_sent(size):
    body = bytes(range(256)) * 400
    parts = [body[start : start + size] for start in range(0, len(body), size)]

    async def receive() -> dict:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}, receive)

    assert asyncio.run(read_body(request, len(body), [JSON])) == body


@pytest.mark.parametrize(("limit", "chunks_read"), [(30, 3), (29, 3), (10, 2), (9, 1)])
def test_reading_stops_once_a_body_exceeds_its_limit(limit, chunks_read):
    sent = []

    async def receive() -> dict:
        sent.append(1)
        return {"type": "http.request", "body": b"0123456789", "more_body": len(sent) < 3}

    request = Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}, receive)

    if limit >= 30:
        assert asyncio.run(read_body(request, limit, (JSON, MULTIPART))) == b"0123456789" * 3
    else:
        with pytest.raises(ServiceError) as caught:
            asyncio.run(read_body(request, limit, (JSON, MULTIPART)))
        assert caught.value.code is Code.BODY_TOO_LARGE
    assert len(sent) == chunks_read
