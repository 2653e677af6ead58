"""Requests of MLServer's types, recorded and made anew, and parameters of other clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.clients.environments import run_in
from tests.support.closed_service import CANARY

CLIENTS = Path(__file__).parents[2] / "support/clients"
RECORDED = [json.loads(line) for line in (CLIENTS / "mlserver_requests.jsonl").read_text().splitlines()]
INFER = "/v2/models/fruit/infer"
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a red apple"]}
IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [""]}
REFUSALS = {
    "text in base64": "inputs.0: content_type must say plain text: one of str, np, pd, datetime.",
    "pixels": "inputs.0.datatype: must be 'BYTES'.",
    "a table of objects": "inputs.0: content_type must say plain text: one of str, np, pd, datetime.",
    "labels in base64": "outputs.0.parameters.content_type: must be 'str', 'np', 'pd' or 'datetime'.",
    "another name": "inputs.0: must be 'image' or 'text'. Did you mean image?",
    "an unknown parameter": (
        "parameters has a field that the service does not know. "
        "The fields are top_k, coverage, binary_data_output, timeout, content_type."
    ),
}


def outputs(client, body: dict) -> dict[str, dict]:
    response = client.post(INFER, json=body)
    assert response.status_code == 200, response.json()
    return {output["name"]: output for output in response.json()["outputs"]}


def with_parameters(place: str, parameters: object) -> dict:
    """A request for one text with these parameters of the request, of its input, or of a requested output."""
    body = {"inputs": [dict(TEXT)], "outputs": [{"name": "labels"}, {"name": "scores"}]}
    carrier = {"request": body, "input": body["inputs"][0], "output": body["outputs"][0]}[place]
    carrier["parameters"] = parameters
    return body


@pytest.mark.parametrize("line", [it for it in RECORDED if it["is_answered"]], ids=lambda line: line["name"])
def test_a_request_of_mlserver_is_answered_as_without_parameters(client, line):
    body = line["body"]
    plain = [{name: part for name, part in tensor.items() if name != "parameters"} for tensor in body["inputs"]]

    found, expected = outputs(client, body), outputs(client, {"inputs": plain})

    assert found["labels"] == expected["labels"]
    assert found["scores"]["data"] == pytest.approx(expected["scores"]["data"], abs=1e-6)
    assert len(found) == (2 if body.get("outputs") else 4)


@pytest.mark.parametrize("line", [it for it in RECORDED if not it["is_answered"]], ids=lambda line: line["name"])
def test_a_request_of_mlserver_for_something_else_is_refused_by_name(client, line):
    response = client.post(INFER, json=line["body"])

    assert response.status_code == 422
    assert response.json()["error"] == REFUSALS[line["name"].removesuffix(", with nulls")]


@pytest.mark.slow
def test_the_recorded_requests_are_those_of_mlserver():
    assert [json.loads(line) for line in run_in_mlserver()] == RECORDED


def test_mlservers_types_and_codecs_read_the_answers(real):
    answers = {line["name"]: line["answer"] for line in map(json.loads, run_in_mlserver(real.url, CANARY))}

    assert answers.keys() == {line["name"] for line in RECORDED}
    for line in RECORDED:
        answer = answers[line["name"]]
        if not line["is_answered"]:
            assert answer == {"error": REFUSALS[line["name"].removesuffix(", with nulls")]}
            continue
        assert [sorted(row) for row in answer["labels"]] == [["apple", "pear", "plum"]] * 2
        assert answer["strings"] == [label for row in answer["labels"] for label in row]
        assert [sum(row) for row in answer["scores"]] == pytest.approx([1, 1], abs=1e-5)
    assert answers["headers"]["id"] == "mine-7"


def run_in_mlserver(*arguments: str) -> list[str]:
    return run_in("mlserver", "python", CLIENTS / "mlserver_requests.py", *arguments).splitlines()


@pytest.mark.parametrize("place", ["request", "input", "output"])
@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"content_type": None, "headers": None, "anything": None},
        {"content_type": "str", "headers": {"Ce-Id": "7", "authorization": "x"}},
        {"priority": 3},
        {"priority": 0},
        {"sequence_id": 0, "sequence_start": False, "sequence_end": False},
        {"sequence_id": ""},
        {"classification": 0, "shared_memory_region": ""},
    ],
)
def test_parameters_that_do_not_change_the_answer_are_ignored(client, place, parameters):
    expected = outputs(client, {"inputs": [TEXT]})

    found = outputs(client, with_parameters(place, parameters))

    assert found["labels"] == expected["labels"]
    assert found["scores"]["data"] == pytest.approx(expected["scores"]["data"], abs=1e-6)


@pytest.mark.parametrize("place", ["request", "input", "output"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence_id", 5),
        ("sequence_id", "a"),
        ("sequence_start", True),
        ("classification", 2),
        ("shared_memory_region", "r"),
        ("shared_memory_byte_size", 64),
    ],
)
def test_a_parameter_that_asks_for_something_else_is_refused_by_name(client, place, name, value):
    problem = client.post(INFER, json=with_parameters(place, {name: value})).json()

    path = {"request": "parameters", "input": "inputs.0.parameters", "output": "outputs.0.parameters"}[place]
    assert problem["code"] == "extra_field"
    assert problem["error"].startswith(f"{path} has a field that the service does not know: {name}. The fields are ")


@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_an_unknown_parameter_is_refused_without_its_name(client, place):
    problem = client.post(INFER, json=with_parameters(place, {"canary-7f3a": 0})).json()

    assert problem["code"] == "extra_field"
    assert "canary" not in problem["error"]
    assert "content_type" in problem["error"]


@pytest.mark.parametrize("content_type", ["base64", "image/png", "IMAGE/JPEG", "str", "np", "pd", None])
def test_a_picture_is_base64_whatever_mlserver_calls_it(client, content_type):
    image = next(line["body"]["inputs"][0] for line in RECORDED if line["name"] == "both modalities")
    renamed = {**image, "parameters": {"content_type": content_type}}

    assert outputs(client, {"inputs": [renamed]})["modalities"]["data"] == ["image", "image"]


@pytest.mark.parametrize(
    ("tensor", "parameters"),
    [
        (IMAGE, {"content_type": "pd_json"}),
        (IMAGE, {"content_type": "hg_json"}),
        (IMAGE, {"content_type": "base64", "binary_data_size": 4}),  # the bytes are the picture's own
        (TEXT, {"content_type": "image/png"}),
    ],
)
def test_another_content_type_is_refused(client, tensor, parameters):
    problem = client.post(INFER, json={"inputs": [{**tensor, "parameters": parameters}]}).json()

    assert problem["code"] == "bad_value"
    assert problem["error"].startswith(f"inputs.0: content_type must say plain {tensor['name']}: one of str, ")


@pytest.mark.parametrize("requested", [None, []])
def test_all_outputs_are_the_default(client, requested):
    assert list(outputs(client, {"inputs": [TEXT], "outputs": requested})) == [
        "labels",
        "scores",
        "selected",
        "modalities",
    ]


@pytest.mark.parametrize("request_id", [None, "", "mine-7"])
def test_an_id_is_optional(client, request_id):
    answer = client.post(INFER, json={"id": request_id, "model_version": None, "inputs": [TEXT]})

    assert answer.json()["id"] == (request_id or answer.headers["X-Request-ID"])


@pytest.mark.parametrize("shape", [[-1], [-1, 1], [2], [1, 2], [1, 1, 1], []])
def test_a_shape_that_does_not_fit_the_data_is_refused(client, shape):
    assert client.post(INFER, json={"inputs": [{**TEXT, "shape": shape}]}).json()["code"] == "bad_value"


@pytest.mark.parametrize(
    ("names", "suggestion"),
    [
        (("picture",), " Did you mean image?"),
        (("Image",), " Did you mean image?"),
        (("prompt",), " Did you mean text?"),
        (("canary-7f3a",), ""),
        (("text", "images[]"), " Did you mean image?"),
    ],
)
def test_an_input_of_another_name_is_refused_with_the_closest(client, names, suggestion):
    problem = client.post(INFER, json={"inputs": [{**TEXT, "name": name} for name in names]}).json()

    assert problem["error"] == f"inputs.{len(names) - 1}: must be 'image' or 'text'.{suggestion}"


def test_an_output_of_another_name_is_refused_with_the_closest(client):
    found = {}
    for name in ("label", "probabilities", "Scores"):
        problem = client.post(INFER, json={"inputs": [TEXT], "outputs": [{"name": name}]}).json()
        found[name] = problem["error"].rpartition(". ")[2]

    assert found == {
        "label": "Did you mean labels?",
        "probabilities": "Did you mean scores?",
        "Scores": "Did you mean scores?",
    }
