"""The tensors of the Open Inference Protocol, from requests and into answers."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_store.items.cells import is_missing
from service.api.open_inference import InferenceRequest
from service.errors import Code, ServiceError
from service.web.tensors import HEADER_LENGTH, parse_inference, respond

ITEMS = st.lists(
    st.tuples(st.binary(max_size=9), st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=9)),
    min_size=1,
    max_size=8,
)


def packed(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def message(images: list[bytes], texts: list[str], binary: bool, nested: bool) -> tuple[bytes, str | None]:
    """A request's body and its header `Inference-Header-Content-Length`."""
    shape = [len(images), 1] if nested else [len(images)]
    inputs, data = [], b""
    for name, values in {"image": images, "text": [text.encode() for text in texts]}.items():
        tensor = {"name": name, "shape": shape, "datatype": "BYTES"}
        if binary:
            data += packed(*values)
            tensor["parameters"] = {"binary_data_size": len(packed(*values))}
        else:
            strings = [base64.b64encode(v).decode() if name == "image" else v.decode() for v in values]
            tensor["data"] = [[text] for text in strings] if nested else strings
        inputs.append(tensor)
    head = json.dumps({"inputs": inputs}).encode()
    return head + data, str(len(head)) if binary else None


@settings(deadline=None)
@given(items=ITEMS, binary=st.booleans(), nested=st.booleans())
def test_both_forms_give_the_items_that_were_packed(items, binary, nested):
    images, texts = [image for image, _ in items], [text for _, text in items]
    body, header_length = message(images, texts, binary, nested)
    expected = [(image, "" if is_missing(text) else text) for image, text in items]
    if (b"", "") in expected:
        with pytest.raises(ServiceError, match=f"Item {expected.index((b'', ''))}: Give an image") as caught:
            parse_inference(body, header_length, 1000, 8)
        assert caught.value.code is Code.MISSING_INPUT
        return

    parsed = parse_inference(body, header_length, 1000, 8)

    assert [(item.image or b"", item.text or "") for item in parsed.items] == expected


@pytest.mark.parametrize("blank", ["\u3000 ", "\u200b", "\ufeff", "\u2060\u00ad\u200e"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_blank_text_is_absent(blank, binary):
    body, header_length = message([b"picture"], [blank], binary, nested=False)

    (item,) = parse_inference(body, header_length, 1000, 8).items

    assert (item.image, item.text) == (b"picture", None)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), items=ITEMS, binary=st.booleans())
def test_a_damaged_body_gets_an_answer_or_a_client_error(client, data, items, binary):
    body, header_length = message([image for image, _ in items], [text for _, text in items], binary, False)
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    headers = {HEADER_LENGTH: header_length} if header_length else {}

    response = client.post("/v2/models/fruit/infer", content=bytes(damaged), headers=headers)

    assert response.status_code in (200, 400, 413, 415, 422)
    assert ("error" in response.json()) == (response.status_code != 200)


def test_the_binary_tensors_follow_the_json_in_the_requested_order():
    arrays = {
        "labels": np.array([["a", "\u00e9"]]),
        "scores": np.array([[0.75, 0.25]], np.float32),
        "selected": np.array([[True, False]]),
        "modalities": np.array(["text"]),
    }
    outputs = [{"name": name, "parameters": {"binary_data": name != "scores"}} for name in reversed(arrays)]
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    request = InferenceRequest.model_validate({"inputs": [tensor], "outputs": outputs})

    response = respond(request, "fruit", 3, "mine", arrays)

    size = int(response.headers[HEADER_LENGTH])
    answer, rest = json.loads(response.body[:size]), response.body[size:]
    assert rest == packed(b"text") + b"\x01\x00" + packed(b"a", "\u00e9".encode())
    assert [output["shape"] for output in answer["outputs"]] == [[1], [1, 2], [1, 2], [1, 2]]
    assert answer["outputs"][2]["data"] == [0.75, 0.25]
    sizes = [output.get("parameters", {}).get("binary_data_size") for output in answer["outputs"]]
    assert sizes == [8, 2, None, 11]
