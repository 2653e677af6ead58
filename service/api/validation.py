"""Whether the fields that a client sends, or a row of a data set holds, make an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from model_store.messages import describe_field_error
from service.api.item import Item
from service.api.requests import Input
from service.errors import Code, ServiceError

Form = TypeVar("Form", bound=BaseModel)


def parse_item(fields: object, max_text_bytes: int) -> Item | ServiceError:
    """The item that the fields of an `Input` make, or what is wrong with it."""
    try:
        if not isinstance(fields, dict):
            raise ServiceError(Code.BAD_VALUE, "An input must be a JSON object.")
        given = validate(Input, fields, strict=True)
        check_item(given, max_text_bytes)
    except ServiceError as error:
        return error
    return Item(given.image, given.text)


def check_item(item: Input, max_text_bytes: int) -> None:
    """Refuse an item without image and text, and a text that is too long or no Unicode. Raises ServiceError."""
    if item.image is None and item.text is None:
        raise ServiceError(Code.MISSING_INPUT, "Give an image, a text, or both.")
    if item.text is not None and _size_in_bytes(item.text) > max_text_bytes:
        raise ServiceError(Code.TEXT_TOO_LARGE, f"A text may have {max_text_bytes} bytes of UTF-8; shorten it.")


def validate(form: type[Form], fields: Mapping[str, object], strict: bool) -> Form:
    """The form that the fields make. Raises ServiceError, which never repeats them."""
    try:
        return form.model_validate(fields, strict=strict)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        raise ServiceError(Code.EXTRA_FIELD, f"{first['loc'][0]} has a field that the service does not know.")
    if first["type"] == "extra_forbidden":
        raise ServiceError(Code.EXTRA_FIELD, f"The fields are {', '.join(form.model_fields)}.")
    place = [first["loc"][0], *(part for part in first["loc"] if isinstance(part, int))]  # other names may be input
    raise ServiceError(Code.BAD_VALUE, f"{'.'.join(map(str, place))}: {describe_field_error(first)}.")


def _size_in_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        raise ServiceError(Code.BAD_TEXT, "The text has half of a surrogate pair, which is no character.") from error
