"""The field that a client meant."""

from __future__ import annotations

import pytest

from service.api.field_names import closest_field
from service.api.requests import BatchRequest, ClassifyRequest, Input


@pytest.mark.parametrize(
    ("field", "names"),
    [
        (
            "image",
            "Image IMAGE images image[] image[0] img file files[] uploaded_file picture photos image_url image_b64",
        ),
        ("image", "image_base64 imageData base64_image my-photo image_data_url"),
        ("text", "Text texts txt text[] caption prompt input_text"),
        ("task", "Task tasks model"),
        ("top_k", "topk topK top-k top_n k"),
        ("timeout_ms", "timeout timeoutMs timeout_s"),
        ("explain", "explanation explained Explain"),
    ],
)
def test_the_closest_field_is_found(field, names):
    assert {name: closest_field(name, ClassifyRequest.model_fields) for name in names.split()} == dict.fromkeys(
        names.split(), field
    )


@pytest.mark.parametrize("name", ["items", "instances", "Inputs", "input"])
def test_a_field_of_a_batch_is_found(name):
    assert closest_field(name, BatchRequest.model_fields) == "inputs"


@pytest.mark.parametrize("name", ["", "x", "\u00e9", "__proto__", "seed", "foo" * 10_000, "[]"])
def test_a_name_like_no_field_has_none(name):
    assert closest_field(name, ClassifyRequest.model_fields) is None


def test_only_fields_of_the_form_are_suggested():
    assert closest_field("model", Input.model_fields) is None
