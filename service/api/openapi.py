"""Requests and problems in the OpenAPI document: components, by whose names generators of clients name classes."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from model_store.items.formats import FORMATS
from service.api.open_inference import InferenceRequest
from service.api.openai import EmbeddingRequest, ImagePart, ItemsRequest, ModerationRequest, TextPart
from service.api.problems import InferenceProblemDetails, OpenAIProblem, ProblemDetails
from service.api.requests import BatchRequest, ClassifyRequest, EmbedRequest, Input

REQUEST_ID = {"$ref": "#/components/parameters/RequestId"}
_SCHEMA = "#/components/schemas/{model}"
_FORMS: dict[type[EmbedRequest], str] = {ClassifyRequest: "ClassifyForm", EmbedRequest: "EmbedForm"}  # as multipart
_REASONS: dict[type[ProblemDetails] | type[OpenAIProblem], str] = {
    ProblemDetails: "code",
    InferenceProblemDetails: "error",
    OpenAIProblem: "error",
}
_OPENAI: list[type[ItemsRequest]] = [ModerationRequest, EmbeddingRequest]
_TEXT = {"type": "string"}
_PARTS = [_TEXT, *({"$ref": _SCHEMA.format(model=part.__name__)} for part in (TextPart, ImagePart))]
_INPUT = [_TEXT, {"type": "array", "items": {"anyOf": _PARTS}, "minItems": 1}]  # generators read one kind of list
_FAILURES = {"4XX": "The request cannot be answered; `{}` says why.", "5XX": "The service cannot answer now."}
_REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "The client's own id: at most 128 letters, digits and `._:-`. The answer and the log repeat it.",
    "schema": {"type": "string"},
}


@cache
def components() -> dict[str, dict[str, Any]]:
    """The components that FastAPI does not make, because the service parses bodies itself."""
    models: list[type[BaseModel]] = [
        *_FORMS,
        *_REASONS,
        *_OPENAI,
        BatchRequest,
        Input,
        InferenceRequest,
        TextPart,
        ImagePart,
    ]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in models]
    schemas = models_json_schema(modes, ref_template=_SCHEMA)[1]["$defs"]
    schemas["BatchRequest"]["properties"]["inputs"]["items"] = _reference("Input")
    for request in _OPENAI:
        fields = schemas[request.__name__]["properties"]
        fields["input"] = {"anyOf": _INPUT, "description": fields["input"]["description"]}
    schemas |= {name: _as_form(name, schemas[request.__name__]) for request, name in _FORMS.items()}
    responses = {}
    for problem, reason_field in _REASONS.items():
        content = {problem.media_type: {"schema": _reference(problem.__name__)}}
        for status, description in _FAILURES.items():
            name = _failure_name(problem, status)
            responses[name] = {"description": description.format(reason_field), "content": content}
    return {"schemas": schemas, "responses": responses, "parameters": {"RequestId": _REQUEST_ID}}


def failures(problem: type[ProblemDetails] | type[OpenAIProblem]) -> dict[int | str, dict[str, Any]]:
    """The responses to failed requests, by reference to their components."""
    return {status: {"$ref": f"#/components/responses/{_failure_name(problem, status)}"} for status in _FAILURES}


def item_body(request: type[EmbedRequest], **more: object) -> dict[str, object]:
    """The two forms of a request for one item; `more` is added to the example."""
    example = {"task": "clipart-category", "text": "a red apple", **more}
    json_form = {"schema": _reference(request.__name__), "example": example}
    return _body({"application/json": json_form, "multipart/form-data": {"schema": _reference(_FORMS[request])}})


def batch_body() -> dict[str, object]:
    """A BatchRequest."""
    example = {"inputs": [{"text": "a red apple"}, {"text": "a cello"}], "tasks": ["clipart-category"]}
    return _body({"application/json": {"schema": _reference("BatchRequest"), "example": example}})


def inference_body() -> dict[str, object]:
    """The two forms of an InferenceRequest."""
    example = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a red apple"]}]}
    binary = {"type": "string", "format": "binary", "description": "The JSON, followed by the tensors in binary form."}
    json_form = {"schema": _reference("InferenceRequest"), "example": example}
    return _body({"application/json": json_form, "application/octet-stream": {"schema": binary}})


def inputs_body(request: type[ItemsRequest]) -> dict[str, object]:
    """A request of OpenAI's API."""
    example = {"model": "clipart-category", "input": "a red apple"}
    return _body({"application/json": {"schema": _reference(request.__name__), "example": example}})


def _body(content: dict[str, Any]) -> dict[str, object]:
    return {"required": True, "content": content}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": _SCHEMA.format(model=schema)}


def _failure_name(problem: type[BaseModel], status: str) -> str:
    return f"{problem.__name__}{status}"


def _as_form(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The schema of a request as a form, in which the image is a file and no field is null."""
    properties = {field: _not_null(schema) for field, schema in request["properties"].items()}
    image = {"type": "string", "format": "binary", "description": f"A {FORMATS} file."}
    return {**request, "title": name, "properties": {**properties, "image": image}}


def _not_null(field: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    if not options:
        return field
    return {**{name: part for name, part in field.items() if name not in ("anyOf", "default")}, **options[0]}
