"""Fields of a request that are left out, and fields of another name."""

from __future__ import annotations

import pytest

from service.api.open_inference import InferenceRequest
from service.api.requests import BatchRequest, ClassifyRequest, EmbedRequest, Input, validate
from service.errors import Code, ServiceError


@pytest.mark.parametrize(
    "blank", ["", " ", "\t\n", "\u00a0", "\u2003\u2028", "\u200b", "\ufeff", "\u3000\u2060\u00ad", "\u200e\u2069"]
)
def test_a_blank_text_and_a_blank_image_are_absent(blank):
    request = ClassifyRequest(image=blank, text=blank)

    assert (request.image, request.text) == (None, None)


def test_an_empty_field_gets_its_default():
    request = ClassifyRequest.model_validate({"text": "red", "task": "", "version": "", "top_k": "", "explain": None})

    assert request == ClassifyRequest(text="red")


@pytest.mark.parametrize("task", [" ", "\u00a0", " fruit"])
def test_a_task_of_white_space_is_not_an_absent_task(task):
    assert ClassifyRequest(text="red", task=task).task == task


@pytest.mark.parametrize("name", ["file", "image[]", "images", "Image", "img", "picture"])
@pytest.mark.parametrize("form", [Input, EmbedRequest, ClassifyRequest])
def test_names_are_checked_before_values_and_the_closest_is_suggested(form, name):
    with pytest.raises(ServiceError) as refused:
        validate(form, {"image": "no picture", name: "a.png", "text": 7}, strict=True)

    assert refused.value.code is Code.EXTRA_FIELD
    assert refused.value.detail == f"The fields are {', '.join(form.model_fields)}. Did you mean image?"


@pytest.mark.parametrize("name", ["input", "items", "instances"])
def test_the_fields_of_a_batch_are_listed(name):
    with pytest.raises(ServiceError) as refused:
        validate(BatchRequest, {name: [{}], "tasks": 5}, strict=True)

    assert refused.value.detail == "The fields are inputs, tasks, top_k, coverage, timeout_ms. Did you mean inputs?"


def test_a_nested_name_is_checked_before_values_too():
    tensor = {"name": "text", "shape": "one", "datatype": "BYTES", "values": ["red"]}

    with pytest.raises(ServiceError) as refused:
        validate(InferenceRequest, {"id": 7, "inputs": [tensor]}, strict=True)

    assert refused.value.detail == (
        "inputs.0 has a field that the service does not know. The fields are name, datatype, shape, parameters, data."
    )
