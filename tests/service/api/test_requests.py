"""Fields of a request that are left out."""

from __future__ import annotations

import pytest

from service.api.requests import ClassifyRequest


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
