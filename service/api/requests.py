"""The requests of clients and their checks."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator

from model_store.items.cells import is_missing
from model_store.messages import describe_field_error
from service.errors import Code, ServiceError

Timeout = Annotated[
    int | None,
    Field(ge=1, le=600_000, description="Time limit for the answer in milliseconds, by default MORA_TIMEOUT_MS."),
]
Form = TypeVar("Form", bound=BaseModel)
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)


class Strict(BaseModel):
    """A form whose fields are the only ones allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(Strict):
    """One item. An image or text that is empty, or only white space and invisible characters, counts as absent."""

    image: bytes | None = Field(
        None,
        description="Base64 or a data: URI of a JPEG, PNG or WebP picture; never fetched from a URL.",
        json_schema_extra={"anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}]},
    )
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
        False, description="Add the part of each modality in each label, and the answer without that modality."
    )


class BatchRequest(Strict):
    """Several items to label in several tasks. Inputs are checked one by one: an invalid input fails alone."""

    inputs: list[JsonValue] = Field(min_length=1, description="Items, each with an `image`, a `text`, or both.")
    tasks: list[str] = Field(min_length=1, description="Each input is labelled in each of these tasks.")
    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    timeout_ms: Timeout = None


def validate(form: type[Form], fields: Mapping[str, object], strict: bool) -> Form:
    """The form with these fields. Raises ServiceError, whose detail never repeats their values."""
    try:
        return form.model_validate(fields, strict=strict)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        raise ServiceError(Code.EXTRA_FIELD, f"{first['loc'][0]} has a field that the service does not know.")
    if first["type"] == "extra_forbidden":
        raise ServiceError(Code.EXTRA_FIELD, f"The fields are {', '.join(form.model_fields)}.")
    path = [first["loc"][0], *(part for part in first["loc"] if isinstance(part, int))]  # other names may be input
    raise ServiceError(Code.BAD_VALUE, f"{'.'.join(map(str, path))}: {describe_field_error(first)}.")


def check_item(item: Input, max_text_bytes: int) -> None:
    """Raises ServiceError for an item without image and text, and for a text that is too long or not Unicode."""
    if item.image is None and item.text is None:
        raise ServiceError(Code.MISSING_INPUT, "Give an image, a text, or both.")
    if item.text is not None and _size_in_bytes(item.text) > max_text_bytes:
        raise ServiceError(Code.TEXT_TOO_LARGE, f"A text may have {max_text_bytes} bytes of UTF-8; shorten it.")


def _size_in_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        raise ServiceError(Code.BAD_TEXT, "The text has half of a surrogate pair, which is no character.") from error
