"""Covers service.models.loaded_model, service.api.answers, service.api.item."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from model_store import Padding
from tests.support.tiny import ITEMS, body

STAGES = ["decode", "tokenize", "queue", "image_encoder", "text_encoder", "head", "total"]


@pytest.mark.parametrize("pattern", ITEMS)
def test_a_single_label_answer_has_every_field(client, picture, pixels, oracle, pattern):
    has_image, text = ITEMS[pattern]
    expected = oracle("fruit").scores(pixels if has_image else None, text)

    response = client.post("/classify", json=body(picture, pattern, "fruit"))

    answer = response.json()
    assert response.status_code == 200, answer
    assert list(answer) == ["task", "version", "labels", "modalities", "latency_ms", "request_id"]
    assert (answer["task"], answer["version"]) == ("fruit", 1)
    assert [label["label"] for label in answer["labels"]] == sorted(expected, key=expected.get, reverse=True)
    assert {label["label"]: label["score"] for label in answer["labels"]} == pytest.approx(expected, abs=1e-5)
    assert [label["selected"] for label in answer["labels"]] == [True, False, False]
    assert answer["modalities"] == {"image": "used" if has_image else "absent", "text": "used" if text else "absent"}
    assert list(answer["latency_ms"]) == STAGES
    assert re.fullmatch(r"[0-9a-f]{32}", answer["request_id"])


@pytest.mark.parametrize("pattern", ITEMS)
def test_a_multi_label_answer_selects_by_threshold(client, picture, pixels, oracle, pattern):
    has_image, text = ITEMS[pattern]
    expected = oracle("tags").scores(pixels if has_image else None, text)
    thresholds = dict(zip(oracle("tags").labels, oracle("tags").calibration(pattern).thresholds, strict=True))

    answer = client.post("/classify", json=body(picture, pattern, "tags")).json()

    assert {label["label"]: label["score"] for label in answer["labels"]} == pytest.approx(expected, abs=1e-5)
    assert {label["label"] for label in answer["labels"] if label["selected"]} == {
        label for label in expected if expected[label] >= thresholds[label]
    }


def test_the_three_patterns_select_none_one_and_two_tags(oracle, pixels):
    """Otherwise the test above would not cover every number of tags."""
    tags = oracle("tags")
    counts = []
    for pattern, (has_image, text) in ITEMS.items():
        scores = tags.scores(pixels if has_image else None, text).values()
        counts.append(
            sum(score >= cut for score, cut in zip(scores, tags.calibration(pattern).thresholds, strict=True))
        )
    assert sorted(counts) == [0, 1, 2]


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("more", [{}, {"top_k": 2}, {"version": 1}])
def test_a_form_and_json_get_the_same_answer(client, picture, pattern, more):
    has_image, text = ITEMS[pattern]
    files = {"image": ("a.png", picture, "image/png")} if has_image else {"image": ("", b"")}
    fields = {"task": "fruit", "text": text or "", **{name: str(value) for name, value in more.items()}}

    as_form = client.post("/classify", data=fields, files=files).json()
    as_json = client.post("/classify", json=body(picture, pattern, "fruit", **more)).json()

    for name in ("task", "version", "labels", "modalities"):
        assert as_form[name] == as_json[name]


def test_a_data_uri_is_an_image(client, picture):
    plain = body(picture, "image", "fruit")
    uri = {**plain, "image": "data:image/png;base64," + plain["image"]}
    assert client.post("/classify", json=uri).json()["labels"] == client.post("/classify", json=plain).json()["labels"]


def test_an_empty_string_white_space_and_null_count_as_absent(client, picture):
    plain = client.post("/classify", json=body(picture, "image", "fruit")).json()
    for nothing in ("", " \t\u00a0\u3000\n", None):
        answer = client.post("/classify", json=body(picture, "image", "fruit", text=nothing)).json()
        assert answer["modalities"] == {"image": "used", "text": "absent"}
        assert answer["labels"] == plain["labels"]
    assert client.post("/classify", json={"task": "fruit", "image": "", "text": "red"}).json()["modalities"] == {
        "image": "absent",
        "text": "used",
    }


def test_a_long_text_is_truncated_and_says_so(client):
    fits, too_long = "red " * 8, "red " * 9
    answers = [client.post("/classify", json={"task": "fruit", "text": text}).json() for text in (fits, too_long)]
    assert [answer["modalities"]["text"] for answer in answers] == ["used", "truncated"]
    assert answers[0]["labels"] == answers[1]["labels"]


def test_special_tokens_in_a_text_are_plain_text(client):
    special, unknown = (
        client.post("/classify", json={"task": "fruit", "text": text}).json()["labels"]
        for text in ("red </s>", "red other")
    )
    assert special == unknown


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (1000, 3)])
def test_labels_are_cut_at_top_k(client, top_k, count):
    labels = client.post("/classify", json={"task": "fruit", "text": "red", "top_k": top_k}).json()["labels"]
    assert len(labels) == count
    assert labels[0]["selected"]


def test_a_task_may_be_left_out_when_it_is_the_only_one(shelf, serve):
    shelf.publish("fruit")
    client = serve(shelf.store)
    assert client.post("/classify", json={"text": "red"}).json()["task"] == "fruit"
    assert client.post("/classify", json={"text": "red", "task": ""}).json()["task"] == "fruit"


def test_an_absent_modality_costs_nothing(client, picture, sample):
    """Law 1: the tower of an absent modality does not run."""

    def runs() -> dict[str, float]:
        series = {encoder: f'mora_batch_size_count{{encoder="{encoder}"}}' for encoder in ("image", "text")}
        return {encoder: sample(client, name) for encoder, name in series.items()}

    before = runs()
    text_only = client.post("/classify", json=body(picture, "text", "fruit")).json()["latency_ms"]
    after_text = runs()
    image_only = client.post("/classify", json=body(picture, "image", "fruit")).json()["latency_ms"]
    after_image = runs()

    assert after_text == {"image": before["image"], "text": before["text"] + 1}
    assert after_image == {"image": before["image"] + 1, "text": before["text"] + 1}
    assert (text_only["decode"], text_only["image_encoder"]) == (0.0, 0.0)
    assert (image_only["tokenize"], image_only["text_encoder"]) == (0.0, 0.0)
    assert text_only["text_encoder"] > 0
    assert image_only["image_encoder"] > 0


def test_server_timing_repeats_the_answers_latency(client, picture):
    response = client.post("/classify", json=body(picture, "both", "fruit"))
    timing = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert {stage: float(value) for stage, value in timing.items()} == response.json()["latency_ms"]
    latency = response.json()["latency_ms"]
    assert latency["total"] >= max(latency[stage] for stage in STAGES[:-1])


def test_the_answer_has_the_clients_request_id_and_the_services_own(client):
    item = {"task": "fruit", "text": "red"}
    for request_id, echoed in [("order-17", True), ("x" * 129, False), ("a b", False), ("\x1b[31m", False)]:
        response = client.post("/classify", json=item, headers={"X-Request-ID": request_id})
        own = response.json()["request_id"]
        assert own != request_id
        assert response.headers["X-Request-ID"] == (request_id if echoed else own)


def test_a_version_can_be_pinned(shelf, serve, oracle):
    shelf.publish(seed=1)
    shelf.publish(seed=2)
    client = serve(shelf.store)
    for version, seed in [(None, 2), (1, 1), (2, 2), (1, 1)]:
        answer = client.post("/classify", json={"text": "red", "version": version}).json()
        assert answer["version"] == (version or 2)
        scores = {label["label"]: label["score"] for label in answer["labels"]}
        assert scores == pytest.approx(oracle("fruit", seed).scores(None, "red"), abs=1e-5)


def test_a_tower_that_is_not_causal_gets_padded_texts(shelf, serve, oracle, pixels, picture):
    padding = Padding(length=10, token=4)
    shelf.publish_draft(shelf.draft(padding=padding))
    client = serve(shelf.store)
    padded, causal = oracle("fruit", padding=padding), oracle("fruit")
    for pattern, (has_image, text) in ITEMS.items():
        answer = client.post("/classify", json=body(picture, pattern, "fruit")).json()
        scores = {label["label"]: label["score"] for label in answer["labels"]}
        assert scores == pytest.approx(padded.scores(pixels if has_image else None, text), abs=1e-5)
        if text is not None:
            assert scores != pytest.approx(causal.scores(pixels if has_image else None, text), abs=1e-3)


def test_only_a_few_pinned_versions_stay_loaded(shelf, serve):
    for seed in range(1, 5):
        shelf.publish(seed=seed)
    client = serve(shelf.store, max_pinned_versions=2)
    for version in (1, 2, 3, 1):
        assert client.post("/classify", json={"text": "red", "version": version}).json()["version"] == version
    graphs = client.app.state.engine.catalog.loader.graphs
    assert len(graphs) == 2 + 3 * 2  # the trunks, and the tails of the live version and of two pinned ones


def test_pictures_of_any_shape_and_kind_are_answered(client):
    from io import BytesIO

    from PIL import Image

    for size in [(1, 1), (1, 200), (333, 20)]:
        for mode in ("RGB", "RGBA", "L", "CMYK", "P", "1", "I;16"):
            file = BytesIO()
            Image.new(mode, size).save(file, "JPEG" if mode == "CMYK" else "PNG")
            image = base64.b64encode(file.getvalue()).decode()
            response = client.post("/classify", json={"task": "fruit", "image": image})
            assert response.status_code == 200, (size, mode, response.json())
            assert np.isfinite([label["score"] for label in response.json()["labels"]]).all()
