"""A request of OpenAI's API to its items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import JsonValue

from service.api.item import Item, parse_item
from service.api.openai import ImagePart, ItemsRequest, TextPart
from service.api.requests import validate
from service.errors import Code, ServiceError, about, at_item
from service.web.bodies import parse_json

Form = TypeVar("Form", bound=ItemsRequest)
_DATA_URI = re.compile(r"\s*data:", re.IGNORECASE)


@dataclass(frozen=True)
class Inputs(Generic[Form]):
    """A parsed request for N items."""

    request: Form
    items: Sequence[Item]


def parse_inputs(form: type[Form], body: bytes, max_text_bytes: int, max_items: int) -> Inputs[Form]:
    """Parse a body; blocking. Raises ServiceError, which names a faulty item by its index."""
    request = validate(form, parse_json(body, max_items), strict=True)
    with about("input"):
        inputs = _inputs(request.input)
        if len(inputs) > max_items:
            raise _bad(f"input: a request may have {max_items} items; send several requests.")
        items = []
        for index, fields in enumerate(inputs):
            item = parse_item(fields, max_text_bytes)
            if isinstance(item, ServiceError):
                raise at_item(index, item)
            items.append(item)
    return Inputs(request, items)


def _inputs(value: JsonValue) -> list[dict[str, str]]:
    """The fields of each item."""
    if isinstance(value, str):
        return [{"text": value}]
    if isinstance(value, list) and value:
        texts = [entry for entry in value if isinstance(entry, str)]
        parts = [entry for entry in value if isinstance(entry, dict)]
        if len(texts) == len(value):
            return [{"text": text} for text in texts]
        if len(parts) == len(value):
            return [_item_of(parts)]
    raise _bad(
        "input: must be a text, a list of texts, or a list of the parts of one item. Token ids are not read, because "
        "each task has its own tokenizer."
    )


def _item_of(parts: Sequence[dict[str, JsonValue]]) -> dict[str, str]:
    """The fields of the item that has these parts."""
    fields: dict[str, str] = {}
    for index, part in enumerate(parts):
        try:
            name, value = _field_of(part)
        except ServiceError as error:
            raise ServiceError(error.code, f"input.{index}: {error.detail}") from error
        if name in fields:
            raise _bad(f"input.{index}: an item has at most one text and one image; send each item in its own request.")
        fields[name] = value
    return fields


def _field_of(part: dict[str, JsonValue]) -> tuple[str, str]:
    """The name and the value of the field that a part holds."""
    match part.get("type"):
        case "text":
            return "text", validate(TextPart, part, strict=True).text
        case "image_url":
            url = validate(ImagePart, part, strict=True).image_url.url
            if url and not _DATA_URI.match(url):
                detail = "image_url.url: send the picture as a data: URI; the service fetches no URL."
                raise ServiceError(Code.BAD_BASE64, detail)
            return "image", url
    raise _bad("type: must be 'text' or 'image_url'.")


def _bad(detail: str) -> ServiceError:
    return ServiceError(Code.BAD_VALUE, detail)
