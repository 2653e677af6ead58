from __future__ import annotations

import pytest

from service.client import Client
from tests.support.closed_service import CANARY
from tests.support.tiny import ITEMS, body


@pytest.mark.parametrize("pattern", ITEMS)
def test_features_are_those_of_the_tower_and_null_for_an_absent_modality(client, picture, pixels, oracle, pattern):
    has_image, text = ITEMS[pattern]
    image_features, text_features = oracle("fruit").features(pixels if has_image else None, text)

    answer = client.post("/embed", json=body(picture, pattern, "fruit")).json()

    assert list(answer) == [
        "task", "version", "image_features", "text_features", "modalities", "latency_ms", "request_id"
    ]  # fmt: skip
    assert (answer["task"], answer["version"]) == ("fruit", 1)
    expected = pytest.approx(image_features.tolist(), abs=1e-5) if has_image else None
    assert answer["image_features"] == expected
    assert answer["text_features"] == (pytest.approx(text_features.tolist(), abs=1e-5) if text else None)
    assert answer["modalities"] == {"image": "used" if has_image else "absent", "text": "used" if text else "absent"}
    assert (answer["latency_ms"]["image_encoder"] > 0) == has_image


def test_a_form_and_json_get_the_same_features(client, picture):
    form = client.post("/embed", data={"task": "fruit", "text": "red"}, files={"image": ("a.png", picture)}).json()
    both = client.post("/embed", json={**body(picture, "image", "fruit"), "text": "red"}).json()
    for name in ("image_features", "text_features"):
        assert form[name] == pytest.approx(both[name])


def test_it_counts_as_a_request_and_not_as_a_prediction(client, sample):
    requests = 'mora_requests_total{modalities="text",status="200",task="tags"}'
    answers = 'mora_prediction_confidence_count{modalities="text",task="tags"}'
    before = sample(client, requests), sample(client, answers)

    client.post("/embed", json={"task": "tags", "text": "red"})

    assert (sample(client, requests), sample(client, answers)) == (before[0] + 1, before[1])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_input"),
        ({"text": "red", "top_k": 3}, "extra_field"),
        ({"text": "red", "task": "none"}, "unknown_task"),
        ({"text": "red", "version": 9}, "unknown_version"),
    ],
)
def test_an_invalid_request_is_refused(client, fields, code):
    assert client.post("/embed", json={"task": "fruit", **fields}).json()["code"] == code


@pytest.mark.slow
def test_the_python_client_embeds(real):
    with Client(real.url, CANARY) as client:
        embedding = client.embed(text="red", task="fruit")

    assert embedding.image_features is None
    assert embedding.text_features is not None
    assert len(embedding.text_features) == 8
