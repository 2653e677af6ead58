"""The label set of an answer, through HTTP: its labels, its review, and coverages that are not supported."""

from __future__ import annotations

import json

import numpy as np
import pytest

from model_store import Pattern
from model_store.label_sets import ExpectedSets, Quantiles
from tests.support.tiny import ITEMS, body, label_sets

EXPECTED = ExpectedSets(size=1, review=0)
ITEM = {"task": "fruit", "text": "a red apple"}


@pytest.fixture
def sets_of(shelf, serve):
    """`sets_of(**fields of LabelSets)`: a client of a service with the tasks `fruit` and `tags`."""

    def start(**fields: object):
        shelf.publish_with_label_sets("fruit", **fields)
        shelf.publish_with_label_sets("tags", rule="threshold")
        return serve(shelf.store)

    return start


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
@pytest.mark.parametrize(
    "rule", [{"rule": "threshold"}, {"rule": "adaptive"}, {"rule": "regularised", "penalty": 0.1, "free_ranks": 1}]
)
@pytest.mark.slow
def test_the_set_has_the_labels_that_the_rule_chooses_best_first(sets_of, picture, pattern, coverage, rule):
    client = sets_of(**rule)
    answer = client.post("/classify", json=body(picture, pattern, "fruit", coverage=coverage)).json()

    scores = {label["label"]: label["score"] for label in answer["labels"]}
    chosen = label_sets(**rule).members(np.array([*scores.values()]), pattern, coverage, single=True)
    expected = [label for label, each in zip(scores, chosen, strict=True) if each]
    assert answer["label_set"] == {"labels": expected, "coverage": coverage, "review": len(expected) != 1}
    assert expected[0] == answer["labels"][0]["label"]


def test_more_coverage_never_makes_a_set_smaller(sets_of, picture):
    client, before = sets_of(), set()
    for coverage in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        labels = client.post("/classify", json={**ITEM, "coverage": coverage}).json()["label_set"]["labels"]
        assert before <= set(labels)
        before = set(labels)
    assert before == {"apple", "pear", "plum"}


@pytest.mark.parametrize(("coverage", "size"), [(0.5, None), (0.9, None), (0.99, 4)])
def test_a_multi_label_set_may_be_empty_and_holds_every_label_in_the_end(sets_of, picture, coverage, size):
    answer = sets_of().post("/classify", json=body(picture, "both", "tags", coverage=coverage)).json()

    found = answer["label_set"]
    expected = [label["label"] for label in answer["labels"] if 1 - label["score"] <= np.ceil(coverage * 100) / 100]
    assert found["labels"] == expected
    assert found["review"] is (len(expected) != 1)
    assert size in (None, len(expected))


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
def test_an_answer_without_coverage_has_no_set(sets_of, path):
    item = {"inputs": [{"text": "red"}], "tasks": ["fruit"]} if path.endswith("batch") else ITEM
    answer = sets_of().post(path, json=item).json()
    assert "label_set" not in (answer["results"][0][0] if path.endswith("batch") else answer)


def test_the_coverage_of_a_form_is_a_number(sets_of):
    client = sets_of()
    as_json = client.post("/classify", json={**ITEM, "coverage": 0.8}).json()["label_set"]
    as_form = client.post(
        "/classify", files={name: (None, value) for name, value in {**ITEM, "coverage": "0.8"}.items()}
    )
    assert as_form.json()["label_set"] == as_json


@pytest.mark.parametrize("coverage", [0, 0.49, 1, 1.5, -0.9, "0.9", "high", True, [0.9], float("nan")])
def test_a_coverage_that_is_no_probability_from_half_to_one_is_refused(sets_of, coverage):
    content = '{"text": "red", "task": "fruit", "coverage": %s}'
    answer = sets_of().post(
        "/classify", content=content % json.dumps(coverage), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] in ("bad_value", "bad_json")


@pytest.mark.parametrize("coverage", [0.9900000005, 0.9901, 0.995, 0.9999])
def test_a_coverage_beyond_the_calibration_items_names_the_highest(sets_of, coverage):
    answer = sets_of().post("/classify", json={**ITEM, "coverage": coverage})

    assert (answer.status_code, answer.json()["code"]) == (422, "coverage_unsupported")
    assert "at most 0.99" in answer.json()["detail"]


def test_a_pattern_without_calibration_items_supports_none(shelf, serve, picture):
    few = {Pattern.TEXT: label_sets().by_pattern[Pattern.TEXT], Pattern.IMAGE: Quantiles(items=1, values=(0.5,))}
    shelf.publish_with_label_sets("fruit", by_pattern=few, expected={})
    client = serve(shelf.store)

    assert client.post("/classify", json={"text": "red", "coverage": 0.9}).status_code == 200
    answers = [
        client.post("/classify", json=body(picture, pattern, "fruit", coverage=0.9)) for pattern in ("both", "image")
    ]
    assert [answer.json()["code"] for answer in answers] == 2 * ["coverage_unsupported"]
    assert "a coverage of none" in answers[0].json()["detail"]
    assert "at most 0.5" in answers[1].json()["detail"]
    assert client.get("/tasks/fruit").json()["highest_coverage"] == {"text": 0.99, "image": 0.5}


def test_a_version_published_before_answers_as_ever_and_refuses_coverage(shelf, serve):
    shelf.publish("fruit")
    client = serve(shelf.store)

    assert client.post("/classify", json=ITEM).status_code == 200
    answer = client.post("/classify", json={**ITEM, "coverage": 0.9})
    assert (answer.status_code, answer.json()["code"]) == (422, "coverage_unsupported")
    assert "Version 1 of fruit has no label sets" in answer.json()["detail"]
    assert "a validation split of at least 100 items" in answer.json()["detail"]
    assert client.get("/tasks/fruit").json()["highest_coverage"] == {}
    assert "mora_label_set_size_count" not in client.get("/metrics").text


def test_the_quantiles_of_classes_replace_that_of_all(sets_of):
    spread = label_sets().by_pattern[Pattern.TEXT]
    never = Quantiles(items=99, values=(-1.0,) * 50)
    client = sets_of(by_class={Pattern.TEXT: (never, None, spread.model_copy(update={"values": (0.0,) * 50}))})

    answer = client.post("/classify", json={**ITEM, "coverage": 0.9}).json()

    best = answer["labels"][0]["label"]
    assert set(answer["label_set"]["labels"]) == {best, "pear"}  # pear has no items of its own: it is in every set


def test_a_cell_of_a_batch_fails_alone(shelf, serve):
    shelf.publish_with_label_sets("fruit")
    shelf.publish("tags")
    batch = {"inputs": [{"text": "red"}, {"text": "a green apple"}], "tasks": ["fruit", "tags"], "coverage": 0.9}
    rows = serve(shelf.store).post("/classify/batch", json=batch).json()["results"]

    assert [row[0]["label_set"]["coverage"] for row in rows] == [0.9, 0.9]
    assert [row[1]["code"] for row in rows] == 2 * ["coverage_unsupported"]


@pytest.mark.parametrize(("outputs", "top_k"), [(None, None), (["label_set", "review", "labels"], None), (None, 1)])
def test_open_inference_marks_the_labels_of_the_set(sets_of, outputs, top_k):
    client = sets_of()
    inputs = [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a red apple", "green"]}]
    parameters = {"coverage": 0.9, **({} if top_k is None else {"top_k": top_k})}
    request = {"inputs": inputs, "parameters": parameters}
    if outputs is not None:
        request["outputs"] = [{"name": name} for name in outputs]
    answer = client.post("/v2/models/fruit/infer", json=request).json()

    tensors = {each["name"]: each for each in answer["outputs"]}
    width = top_k or 3
    for number, text in enumerate(inputs[0]["data"]):
        one = client.post("/classify", json={"task": "fruit", "text": text, "coverage": 0.9}).json()["label_set"]
        row = slice(number * width, (number + 1) * width)
        marked = zip(tensors["labels"]["data"][row], tensors["label_set"]["data"][row], strict=True)
        assert [label for label, is_in in marked if is_in] == one["labels"][:width]
        assert tensors["review"]["data"][number] is one["review"]
    assert (tensors["label_set"]["datatype"], tensors["label_set"]["shape"]) == ("BOOL", [2, width])


def test_open_inference_has_no_set_without_coverage(sets_of):
    client = sets_of()
    inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red"]}]
    answer = client.post("/v2/models/fruit/infer", json={"inputs": inputs}).json()
    assert [each["name"] for each in answer["outputs"]] == ["labels", "scores", "selected", "modalities"]

    refused = client.post("/v2/models/fruit/infer", json={"inputs": inputs, "outputs": [{"name": "review"}]})
    assert refused.status_code == 422
    assert "coverage" in refused.json()["detail"]


def test_every_answer_is_counted_by_the_size_of_its_set_at_nine_tenths(sets_of, sample):
    client = sets_of()
    sizes = [len(client.post("/classify", json={**ITEM, "coverage": 0.9}).json()["label_set"]["labels"])]
    client.post("/classify", json=ITEM)
    client.post("/classify", json={**ITEM, "coverage": 0.5})

    series = '{modalities="text",task="fruit"}'
    assert sample(client, f"mora_label_set_size_count{series}") == 3
    assert sample(client, f"mora_label_set_size_sum{series}") == 3 * sizes[0]
    assert sample(client, f"mora_training_label_set_size{series}") == 1.5
    assert sample(client, f"mora_training_review_ratio{series}") == 0.25


@pytest.mark.parametrize("name", ["by_class", "by_pattern", "expected"])
def test_a_manifest_whose_sets_fit_no_label_or_pattern_is_refused(shelf, name):
    spread, few = label_sets().by_pattern[Pattern.TEXT], Quantiles(items=9, values=(0.5,))
    wrong = {"by_class": {"text": (few,)}, "by_pattern": {"sound": spread}, "expected": {"sound": EXPECTED}}

    with pytest.raises(ValueError, match=r"(label_|expected )sets need quantiles"):
        shelf.publish_with_label_sets("fruit", **{"expected": {}, name: wrong[name]})
