"""The requests of clients, and their description for OpenAPI."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator

from model_store.items.cells import is_missing
from service.errors import Code, ServiceError

Timeout = Annotated[
    int | None,
    Field(ge=1, le=600_000, description="Time limit for the answer in milliseconds, by default MORA_TIMEOUT_MS."),
]
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)


class Input(BaseModel):
    """One item. What is empty or white space only counts as absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: bytes | None = Field(None, description="A JPEG, PNG or WebP picture; never fetched from a URL.")
    text: str | None = Field(None, description="The text; cut at the model's maximum number of tokens.")

    @field_validator("image", mode="before")
    @classmethod
    def _from_base64(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return base64.b64decode(_DATA_URI.sub("", value, count=1), validate=True)
        except ValueError as error:
            raise ServiceError(
                Code.BAD_BASE64, "Send base64 with padding and no line breaks; a path or a URL is not read."
            ) from error

    @field_validator("*", mode="before")  # pydantic runs the validator that is defined last first
    @classmethod
    def _default_when_missing(cls, value: object, info: ValidationInfo) -> object:
        is_modality = info.field_name in ("image", "text")
        is_left_out = is_missing(value) if is_modality else value in ("", None)
        return cls.model_fields[str(info.field_name)].default if is_left_out else value


class EmbedRequest(Input):
    """One item to encode."""

    task: str | None = Field(None, description="May be left out when exactly one task is loaded.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="Pins a version; by default the live one.")
    timeout_ms: Timeout = None


class ClassifyRequest(EmbedRequest):
    """One item to label."""

    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    explain: bool = Field(
        False,
        description="Also tell the part of each modality in each label, and the answer without it.",
    )


class BatchRequest(BaseModel):
    """Several items to label in several tasks. Inputs are checked one by one: an invalid input fails alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: list[JsonValue] = Field(min_length=1, description="Items, each with an `image`, a `text`, or both.")
    tasks: list[str] = Field(min_length=1, description="Each input is labelled in each of these tasks.")
    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    timeout_ms: Timeout = None


def item_body(request: type[EmbedRequest], **more: object) -> dict[str, object]:
    """The two forms of a request for one item as OpenAPI describes them; `more` is added to the example."""
    form = request.model_json_schema()
    form["properties"]["image"] = {
        "type": "string",
        "format": "binary",
        "title": "Image",
        "description": "A JPEG, PNG or WebP file.",
    }
    example = {"task": "clipart-category", "text": "a red apple", **more}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": _with_base64(request.model_json_schema()), "example": example},
            "multipart/form-data": {"schema": form},
        },
    }


def batch_body() -> dict[str, object]:
    """A BatchRequest as OpenAPI describes it."""
    schema = BatchRequest.model_json_schema()
    schema["properties"]["inputs"]["items"] = _with_base64(Input.model_json_schema())
    example = {"inputs": [{"text": "a red apple"}, {"text": "a cello"}], "tasks": ["clipart-category"]}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def self_contained(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a form without references, which would not resolve inside an OpenAPI document."""
    schema = form.model_json_schema()
    definitions = schema.get("$defs", {})
    return {name: _inlined(part, definitions) for name, part in schema.items() if name != "$defs"}


def _inlined(schema: JsonValue, definitions: Mapping[str, JsonValue]) -> JsonValue:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[str(schema["$ref"]).rsplit("/", 1)[1]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items() if name != "$defs"}


def _with_base64(schema: dict[str, Any]) -> dict[str, Any]:
    schema["properties"]["image"] = {
        "anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}],
        "title": "Image",
        "description": "Base64 or a data: URI of a JPEG, PNG or WebP picture; never fetched from a URL.",
    }
    return schema
