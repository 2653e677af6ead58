"""The requests of clients and their checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator

from model_store.items.cells import is_missing
from model_store.items.formats import FORMATS
from model_store.items.invisible import unicode_fault
from model_store.items.picture_text import PictureTextError, picture_from_text
from model_store.messages import describe_field_error
from service.api.field_names import closest_field
from service.errors import Code, ServiceError

Timeout = Annotated[
    int | None,
    Field(ge=1, le=600_000, description="Time limit for the answer in milliseconds, by default MORA_TIMEOUT_MS."),
]
Coverage = Annotated[
    float | None,
    Field(
        ge=0.5,
        lt=1,
        description="Add the labels among which the true one is with this probability, and whether to review the item.",
    ),
]
Version = Annotated[int | None, Field(ge=1, le=2**31 - 1, description="Pins a version; by default the live one.")]
Form = TypeVar("Form", bound=BaseModel)
_QUOTED = re.compile(r"'([^']+)'")


class Strict(BaseModel):
    """A form whose fields are the only ones allowed. Errors name an `unsupported` field, which its protocol defines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unsupported: ClassVar[frozenset[str]] = frozenset()


class Input(Strict):
    """One item. An image or text that is empty, or only white space and invisible characters, counts as absent."""

    image: bytes | None = Field(
        None,
        description=f"Base64 or a data: URI of a {FORMATS} picture; never fetched from a URL.",
        json_schema_extra={"anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}]},
    )
    text: str | None = Field(None, description="The text; cut at the model's maximum number of tokens.")

    @field_validator("image", mode="before")
    @classmethod
    def _from_base64(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return picture_from_text(value)
        except PictureTextError as error:
            raise ServiceError(Code.BAD_BASE64, str(error)) from error

    @field_validator("*", mode="before")  # pydantic runs the validator that is defined last first
    @classmethod
    def _default_when_missing(cls, value: object, info: ValidationInfo) -> object:
        is_modality = info.field_name in ("image", "text")
        is_left_out = is_missing(value) if is_modality else value in ("", None)
        return cls.model_fields[str(info.field_name)].default if is_left_out else value


class EmbedRequest(Input):
    """One item to encode."""

    task: str | None = Field(None, description="May be left out when exactly one task is loaded.")
    version: Version = None
    timeout_ms: Timeout = None


class ClassifyRequest(EmbedRequest):
    """One item to label."""

    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    explain: bool = Field(
        False, description="Add the part of each modality in each label, and the answer without that modality."
    )
    coverage: Coverage = None


class BatchRequest(Strict):
    """Several items to label in several tasks. Inputs are checked one by one: an invalid input fails alone."""

    inputs: list[JsonValue] = Field(min_length=1, description="Items, each with an `image`, a `text`, or both.")
    tasks: list[str] = Field(min_length=1, description="Each input is labelled in each of these tasks.")
    top_k: int = Field(5, ge=1, description="How many labels to answer with, best first.")
    coverage: Coverage = None
    timeout_ms: Timeout = None


def validate(form: type[Form], fields: Mapping[str, object], strict: bool) -> Form:
    """The form with these fields. Raises ServiceError, whose detail never repeats their values."""
    check_names(form, fields)
    try:
        return form.model_validate(fields, strict=strict)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")  # names come first
    path, innermost = _known_part(form, first["loc"])
    if first["type"] == "extra_forbidden":
        raise _extra_field(innermost, str(first["loc"][-1]), path)
    detail = f"{path}: {describe_field_error(first)}."
    if first["type"] == "literal_error":
        detail += _suggestion(str(first["input"]), _QUOTED.findall(first["ctx"]["expected"]))
    raise ServiceError(Code.BAD_VALUE, detail, field=path.partition(".")[0] or None)


def check_names(form: type[BaseModel], names: Iterable[str]) -> None:
    """Raises ServiceError for a name that is no field of the form. It lists the fields and suggests the closest."""
    for name in names:
        if name not in form.model_fields:
            raise _extra_field(form, name)


def _extra_field(form: type[BaseModel], name: str, path: str = "") -> ServiceError:
    """The error for a field at a path. It repeats only names that the protocol has and the service does not do."""
    unsupported = f": {name}" if issubclass(form, Strict) and name in form.unsupported else ""
    where = f"{path} has a field that the service does not know{unsupported}. " if path else ""
    detail = f"{where}The fields are {', '.join(form.model_fields)}.{_suggestion(name, form.model_fields)}"
    return ServiceError(Code.EXTRA_FIELD, detail)


def _suggestion(name: str, fields: Iterable[str]) -> str:
    field = closest_field(name, fields)
    return f" Did you mean {field}?" if field else ""


def _known_part(form: type[BaseModel], location: Sequence[int | str]) -> tuple[str, type[BaseModel]]:
    """The path of a location without names that the client chose, and the innermost form around it."""
    path: list[str] = []
    for part in location:
        if isinstance(part, int):
            path.append(str(part))
        elif part in form.model_fields:
            path.append(part)
            form = _nested_form(form.model_fields[part].annotation) or form
    return ".".join(path).removesuffix(".name"), form  # a tensor's name stands for the tensor


def _nested_form(annotation: object) -> type[BaseModel] | None:
    """The form in a type such as `list[InputTensor] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_nested_form, get_args(annotation))), None)


def check_text_size(size_in_bytes: int, max_text_bytes: int) -> None:
    """Raises ServiceError `text_too_large`."""
    if size_in_bytes > max_text_bytes:
        raise ServiceError(Code.TEXT_TOO_LARGE, f"A text may have {max_text_bytes} bytes of UTF-8; shorten it.")


def check_item(item: Input, max_text_bytes: int) -> None:
    """Raises ServiceError for an item without image and text, and for a text that is too long or not Unicode."""
    if item.image is None and item.text is None:
        raise ServiceError(Code.MISSING_INPUT, "Give an image, a text, or both.")
    if item.text is not None:
        if fault := unicode_fault(item.text):
            raise ServiceError(Code.BAD_TEXT, f"The text {fault}.")
        check_text_size(len(item.text.encode()), max_text_bytes)
