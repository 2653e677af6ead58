from __future__ import annotations

import base64

import numpy as np
import pytest

from model_store import Manifest, Pattern
from service.inference.explanation import explain
from service.models.head import Features, Head
from service.models.loaded_model import Model
from tests.support.tiny import ITEMS, body


@pytest.mark.parametrize("task", ["fruit", "tags"])
@pytest.mark.parametrize("pattern", ITEMS)
def test_the_parts_of_the_modalities_sum_to_the_logit(client, picture, pixels, oracle, task, pattern):
    has_image, text = ITEMS[pattern]
    logits = dict(zip(oracle(task).labels, oracle(task).logits(pixels if has_image else None, text), strict=True))

    answer = client.post("/classify", json=body(picture, pattern, task, explain=True)).json()

    explained = answer["explanation"]["labels"]
    assert [part["label"] for part in explained] == [label["label"] for label in answer["labels"]]
    for part in explained:
        assert part["base"] + part["image"] + part["text"] == pytest.approx(part["logit"], abs=1e-9)
        assert part["logit"] == pytest.approx(logits[part["label"]], abs=1e-4)


@pytest.mark.parametrize(("pattern", "absent"), [("image", "text"), ("text", "image")])
def test_an_absent_modality_has_no_part_and_the_other_carries_the_answer(client, picture, pattern, absent):
    explanation = client.post("/classify", json=body(picture, pattern, "fruit", explain=True)).json()["explanation"]
    assert [label[absent] for label in explanation["labels"]] == [0.0, 0.0, 0.0]
    assert any(label[pattern] for label in explanation["labels"])
    assert explanation["carried_by"] == pattern
    assert (explanation["without_image"], explanation["without_text"]) == (None, None)


@pytest.mark.parametrize("task", ["fruit", "tags"])
@pytest.mark.parametrize(("left", "without"), [("text", "without_image"), ("image", "without_text")])
def test_the_answer_without_a_modality_is_the_answer_to_the_other(client, picture, task, left, without):
    text = ITEMS["both"][1]
    rest = {"text": text} if left == "text" else {"image": base64.b64encode(picture).decode()}
    alone = client.post("/classify", json={"task": task, **rest}).json()

    explanation = client.post("/classify", json=body(picture, "both", task, explain=True)).json()["explanation"]

    assert explanation[without] == alone["labels"]


def test_the_answer_without_a_modality_is_not_counted(client, picture, sample):
    series = ['mora_predictions_total{label="apple",task="fruit"}', 'mora_predictions_total{label="pear",task="fruit"}']

    def counted() -> float:
        return sum(sample(client, one) for one in [*series, 'mora_predictions_total{label="plum",task="fruit"}'])

    before = counted()
    client.post("/classify", json=body(picture, "both", "fruit", explain=True))
    assert counted() == before + 1


def test_an_explanation_has_top_k_labels_and_comes_only_with_explain(client, picture):
    plain = client.post("/classify", json=body(picture, "both", "fruit", top_k=2, explain=False)).json()
    explained = client.post("/classify", json=body(picture, "both", "fruit", top_k=2, explain=True)).json()
    form = {"task": "fruit", "text": ITEMS["both"][1], "top_k": "2", "explain": "true"}
    as_form = client.post("/classify", data=form, files={"image": ("a.png", picture, "image/png")}).json()

    assert "explanation" not in plain
    assert explained["labels"] == plain["labels"]
    for name in ("labels", "without_image", "without_text"):
        assert len(explained["explanation"][name]) == 2
    assert as_form["explanation"] == explained["explanation"]


@pytest.mark.parametrize(
    ("task", "image", "text", "carrier"),
    [
        ("fruit", [3, 0, 0], [2, 0, 0], "image"),
        ("fruit", [2, 0, 0], [3, 0, 0], "text"),
        ("fruit", [5, 5, 5], [1, 0, 0], "text"),  # an equal part in every label changes no score
        ("tags", [5, 5, 5, 5], [1, 0, 0, 0], "image"),  # but here it does
    ],
)
def test_the_modality_with_the_largest_part_carries_the_answer(shelf, task, image, text, carrier):
    weight, one = np.array([image, text], np.float32).T, np.ones(1, np.float32)
    biases = dict.fromkeys(Pattern, np.zeros(len(weight), np.float32))
    head = Head(dict.fromkeys(Pattern, weight), biases, 0 * one, 0 * one)
    manifest = shelf.draft(task).manifest
    manifest = Manifest(version=1, **{name: getattr(manifest, name) for name in type(manifest).model_fields})
    unused = dict.fromkeys(("image_tower", "text_tower", "tokenizer", "max_image_pixels", "max_decode_bytes"))
    model = Model(manifest=manifest, head=head, **unused)

    ranking = model.decide(Features(one, one)).ranked(manifest.labels, 2)

    assert explain(model, Features(one, one), ranking).carried_by == carrier
