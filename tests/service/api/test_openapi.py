"""The OpenAPI document has what generators of clients need, and a generated client works.

Covers service.web.described_app.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from openapi_spec_validator import validate

from service.errors import Code
from tests.support.clients.environments import run_in
from tests.support.closed_service import CANARY
from tests.support.tiny import PICTURE

CALLS = Path(__file__).parents[2] / "support/clients/generated_client.py"
CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")


@pytest.fixture(scope="module")
def document(client) -> dict:
    return client.get("/openapi.json").json()


def operations(document: dict) -> Iterator[dict]:
    for methods in document["paths"].values():
        yield from methods.values()


def nodes(part: object, path: tuple = ()) -> Iterator[tuple[tuple, dict]]:
    """Every object in a part of the document, with its path."""
    if isinstance(part, dict):
        yield path, part
        for name, inner in part.items():
            yield from nodes(inner, (*path, name))
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from nodes(inner, (*path, number))


def faults(document: dict) -> set[str]:
    """What makes a generator fail, name a class by chance, or name two classes alike."""
    found = set()
    schemas = document["components"]["schemas"]
    for path, node in nodes(document):
        if "$ref" in node and not any(node["$ref"] == f"#/components/{kind}/{name}" for kind, name in named(document)):
            found.add(f"{node['$ref']} does not exist")
        if "properties" in node and path[:2] != ("components", "schemas"):
            found.add(f"{path} has a schema without a name")
        if "properties" in node and path[:2] == ("components", "schemas") and path[3:]:
            found.add(f"{path} is a nested schema without a name")
        if "$defs" in node:
            found.add(f"{path} has definitions of its own")
    for name, schema in schemas.items():
        if not CLASS_NAME.fullmatch(name) or schema.get("title", name) != name:
            found.add(f"{name} has the title {schema.get('title')}")
    if len({name.lower() for name in schemas}) < len(schemas):
        found.add("two schemas have the same name")
    ids = [operation["operationId"] for operation in operations(document)]
    if len(set(ids)) < len(ids) or not all(name.isidentifier() for name in ids):
        found.add(f"operationIds: {ids}")
    for operation in operations(document):
        for status in ("4XX", "5XX"):
            if operation["responses"].get(status, {}).keys() != {"$ref"}:
                found.add(f"{operation['operationId']} has its own {status}")
    return found


def named(document: dict) -> Iterator[tuple[str, str]]:
    for kind, components in document["components"].items():
        yield from ((kind, name) for name in components)


def test_the_document_is_valid_and_every_class_has_a_name_of_its_own(document):
    validate(document)

    assert faults(document) == set()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("components/schemas/ProblemDetails/title", "Problem"),
        ("components/schemas/Problemdetails", {}),
        ("components/schemas/TaskDetail/properties/extra", {"type": "object", "properties": {}}),
        ("paths/~classify/post/requestBody/content/application~json/schema", {"type": "object", "properties": {}}),
        ("paths/~embed/post/operationId", "classify"),
        ("paths/~embed/post/operationId", "embed-post"),
        ("paths/~livez/get/responses/4XX", {"description": "Client Error"}),
        ("paths/~livez/get/responses/5XX/$ref", "#/components/responses/Problem"),
    ],
)
def test_a_fault_of_the_document_is_found(document, path, value):
    changed = copy.deepcopy(document)
    *way, last = (part.replace("~", "/") for part in path.split("/"))
    inner = changed
    for part in way:
        inner = inner[part]
    inner[last] = value

    assert len(faults(changed)) == 1


def test_every_problem_is_described_by_its_class(document):
    schemas, responses = document["components"]["schemas"], document["components"]["responses"]

    assert schemas["Code"]["enum"] == list(Code)
    kinds = {"/v1": "OpenAIProblem", "/v2": "InferenceProblemDetails"}
    assert set(responses) == {
        f"{kind}{status}" for kind in ("ProblemDetails", *kinds.values()) for status in ("4XX", "5XX")
    }
    for path, methods in document["paths"].items():
        kind = kinds.get(path[:3], "ProblemDetails")
        media_type = "application/json" if kind == "OpenAIProblem" else "application/problem+json"
        for operation in methods.values():
            assert operation["responses"]["4XX"]["$ref"] == f"#/components/responses/{kind}4XX"
            content = responses[f"{kind}4XX"]["content"]
            assert content == {media_type: {"schema": {"$ref": f"#/components/schemas/{kind}"}}}


def test_every_body_is_required_and_every_path_takes_a_request_id(document):
    bodies = [operation["requestBody"] for operation in operations(document) if "requestBody" in operation]

    assert [body["required"] for body in bodies] == [True] * 7
    for operation in operations(document):
        assert {"$ref": "#/components/parameters/RequestId"} in operation["parameters"]


@pytest.fixture(scope="module")
def answers(real, tmp_path_factory) -> dict[str, tuple[str, dict]]:
    """The class and the fields of each answer that a client generated by openapi-python-client got."""
    folder = tmp_path_factory.mktemp("generated")
    request = Request(f"{real.url}/openapi.json", headers={"Authorization": f"Bearer {CANARY}"})
    (folder / "openapi.json").write_bytes(urlopen(request, timeout=60).read())
    (folder / "picture.png").write_bytes(PICTURE)
    pictures = {f"image/{kind}": "application/octet-stream" for kind in ("jpeg", "png", "webp")}  # unknown to it
    (folder / "config.json").write_text(json.dumps({"content_type_overrides": pictures}))
    options = ["--path", "openapi.json", "--config", "config.json", "--output-path", "generated", "--meta", "none"]
    run_in("generator", "openapi-python-client", "generate", "--fail-on-warning", *options, folder=folder)
    return json.loads(run_in("generator", "python", CALLS, real.url, CANARY, "picture.png", folder=folder))


@pytest.mark.parametrize(
    ("call", "modalities"),
    [
        ("picture", {"image": "used", "text": "absent"}),
        ("text", {"image": "absent", "text": "used"}),
        ("form", {"image": "used", "text": "used"}),
        ("form without a picture", {"image": "absent", "text": "used"}),
    ],
)
@pytest.mark.slow
def test_a_generated_client_classifies(answers, call, modalities):
    kind, fields = answers[call]

    assert (kind, fields["modalities"]) == ("Classification", modalities)
    assert fields["labels"][0]["selected"]
    assert len(fields["labels"]) == {"form": 2, "form without a picture": 4}.get(call, 3)


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        ("unknown task", "ProblemDetails", "unknown_task"),
        ("missing input", "ProblemDetails", "missing_input"),
        ("without a key", "ProblemDetails", "unauthorized"),
        ("unknown model", "InferenceProblemDetails", "unknown_task"),
        ("unknown model of OpenAI's API", "OpenAIProblem", "unknown_task"),
    ],
)
@pytest.mark.slow
def test_a_generated_client_gets_a_typed_problem(answers, call, kind, code):
    found, fields = answers[call]

    if kind == "OpenAIProblem":
        fields = {**fields["error"], "detail": fields["error"]["message"]}
    assert (found, fields["code"]) == (kind, code)
    assert fields.get("error", fields["detail"]) == fields["detail"]


@pytest.mark.slow
def test_a_generated_client_gets_every_other_answer_in_its_class(answers):
    kinds = {call: kind for call, (kind, _) in answers.items()}
    assert kinds["embedded picture"] == kinds["embedded text"] == "Embedding"
    assert (kinds["details"], kinds["versions"], kinds["ready"]) == ("TaskDetail", "TaskVersions", "Health")
    assert (kinds["batch"], kinds["inference"]) == ("BatchClassification", "InferenceResponse")
    assert (kinds["moderation"], kinds["embedding"]) == ("ModerationResponse", "EmbeddingResponse")
    (red,), (unreadable,) = answers["batch"][1]["results"]
    assert (red["task"], unreadable["code"]) == ("fruit", "bad_base64")
    assert answers["inference"][1]["outputs"][3]["data"] == ["text"]
