"""What goes over HTTP: the request, the answers, and their description for OpenAPI."""

from __future__ import annotations

import base64
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from model_store import Backbone, Calibration, Pattern, Precision, Problem, Provenance
from service.errors import Code, ServiceError

_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
Modality = Literal["used", "truncated", "absent"]


class ClassifyRequest(BaseModel):
    """One item to label. An empty string counts as absent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str | None = Field(None, description="May be left out when exactly one task is loaded.")
    image: bytes | None = Field(None, description="A JPEG, PNG or WebP picture; never fetched from a URL.")
    text: str | None = Field(None, description="The text; cut at the most tokens the model takes.")
    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="Pins a version; the live one when left out.")

    @field_validator("*", mode="before")
    @classmethod
    def _default_when_empty(cls, value: object, info: ValidationInfo) -> object:
        return cls.model_fields[str(info.field_name)].default if value in ("", b"", None) else value

    @field_validator("image", mode="before")
    @classmethod
    def _from_base64(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return base64.b64decode(_DATA_URI.sub("", value, count=1), validate=True)
        except ValueError as error:
            raise ServiceError(Code.BAD_BASE64, "Send base64 with padding and no line breaks.") from error


class LabelScore(BaseModel):
    """One label of an answer."""

    label: str
    score: float = Field(ge=0, le=1)
    selected: bool = Field(description="The best label (single-label), or one that reaches its threshold (multi-label)")


class Modalities(BaseModel):
    """What became of each modality; `truncated` is a text longer than the model takes."""

    image: Modality
    text: Modality


class Latency(BaseModel):
    """Milliseconds a stage took, exactly 0 for one that did not run; the two encoders run side by side."""

    decode: float
    tokenize: float
    queue: float
    image_encoder: float
    text_encoder: float
    head: float
    total: float


class Classification(BaseModel):
    """The answer to one item."""

    task: str
    version: int
    labels: list[LabelScore]
    modalities: Modalities
    latency_ms: Latency
    request_id: str


class TaskSummary(BaseModel):
    """A task that is loaded."""

    task: str
    version: int
    problem: Problem
    labels: list[str]
    backbone: Backbone
    precision: Precision


class TaskList(BaseModel):
    """Every task that is loaded."""

    tasks: list[TaskSummary]


class TaskDetail(TaskSummary):
    """What is known about the live version of a task."""

    calibration: dict[Pattern, Calibration]
    metrics: dict[str, dict[str, dict[str, float | None]]]
    training_mix: dict[Pattern, float]
    max_logit_error: dict[Pattern, float]
    provenance: Provenance


class Health(BaseModel):
    """The service lives, or is ready."""

    status: Literal["ok"] = "ok"


def request_bodies() -> dict[str, object]:
    """The two forms of a ClassifyRequest as OpenAPI describes them."""
    form = ClassifyRequest.model_json_schema()
    as_json = ClassifyRequest.model_json_schema()
    as_json["properties"]["image"] = {
        "anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}],
        "title": "Image",
        "description": "Base64 or a data: URI of a JPEG, PNG or WebP picture; never fetched from a URL.",
    }
    form["properties"]["image"] = {
        "type": "string",
        "format": "binary",
        "title": "Image",
        "description": "A JPEG, PNG or WebP file.",
    }
    example = {"task": "clipart-category", "text": "a red apple", "top_k": 3}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": as_json, "example": example},
            "multipart/form-data": {"schema": form},
        },
    }
