"""Parsing of request bodies, with an error code for each kind of mistake."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import NoReturn, TypeVar

from pydantic import JsonValue
from starlette.requests import Request

from model_store.items.cells import is_missing
from model_store.items.nesting import MAX_DEPTH, is_too_deep
from service.api.item import Batch, parse_item
from service.api.requests import BatchRequest, EmbedRequest, check_item, check_names, check_text_size, validate
from service.errors import Code, ServiceError
from service.web.json_separators import has_more_separators
from service.web.multipart import parse_multipart

JSON = "application/json"
MULTIPART = "multipart/form-data"
ItemForm = TypeVar("ItemForm", bound=EmbedRequest)
_MAX_DIGITS = 18
_PART_BYTES = 32_768
_MAX_SEPARATORS = 20_000
_SEPARATORS_PER_CELL = 64  # an item of a batch has 6, so this leaves room for fields that are to be named in the error


async def read_body(request: Request, max_bytes: int, media_types: Sequence[str]) -> bytes:
    """The whole body. Raises ServiceError; a body over the limit is not read to its end."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ServiceError(Code.CONTENT_ENCODING, "Send the body without Content-Encoding.")
    if _media_type(request.headers.get("content-type", "")) not in media_types:
        raise ServiceError(Code.CONTENT_TYPE, f"Send {' or '.join(filter(None, media_types))}.")
    too_large = ServiceError(Code.BODY_TOO_LARGE, f"A body may have {max_bytes} bytes; send a smaller image.")
    content_length = request.headers.get("content-length", "0")
    if not content_length.isdecimal() or int(content_length[:20]) > max_bytes:
        raise too_large
    parts, size = [b""], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise too_large
        if len(parts[-1]) + len(part) <= _PART_BYTES:
            parts[-1] += part  # so that tiny parts take no more memory than large ones
        else:
            parts.append(part)
    return b"".join(parts)


def parse_request(form: type[ItemForm], body: bytes, content_type: str, max_text_bytes: int) -> ItemForm:
    """Parse a request for one item; blocking. Raises ServiceError."""
    if _media_type(content_type) == JSON:
        request = validate(form, parse_json(body), strict=True)
    else:
        parts = parse_multipart(body, content_type, len(form.model_fields))
        check_names(form, parts)
        parts = {name: b"" if name in ("image", "text") and part.isspace() else part for name, part in parts.items()}
        check_text_size(len(parts.get("text", b"")), max_text_bytes)  # before it takes more memory as characters
        texts = {name: parse_utf8(part, f"{name}: ") for name, part in parts.items() if name != "image"}
        request = validate(form, {**texts, "image": parts.get("image")}, strict=False)
    check_item(request, max_text_bytes)
    return request


def parse_batch(body: bytes, max_text_bytes: int, max_cells: int) -> Batch:
    """Parse a request for several items from JSON; blocking. Raises ServiceError."""
    request = validate(BatchRequest, parse_json(body, max_cells), strict=True)
    if len(request.inputs) * len(request.tasks) > max_cells:
        raise ServiceError(Code.BAD_VALUE, f"inputs times tasks may be {max_cells}; send several requests.")
    inputs = [parse_item(fields, max_text_bytes) for fields in request.inputs]
    return Batch(inputs, request.tasks, request.top_k, request.coverage, request.timeout_ms)


def parse_json(body: bytes, max_cells: int = 1) -> dict[str, JsonValue]:
    """The JSON object of a body, with room for `max_cells` items. Raises ServiceError."""
    max_separators = max(_MAX_SEPARATORS, max_cells * _SEPARATORS_PER_CELL)
    if has_more_separators(body, max_separators):
        detail = f"JSON may have {max_separators} commas, colons and opening brackets; send several requests."
        raise ServiceError(Code.BAD_JSON, detail)
    try:
        value = json.loads(
            parse_utf8(body), parse_constant=_refuse_constant, parse_int=_parse_int, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON at line {error.lineno}, column {error.colno}; correct it there or just before."
        raise ServiceError(Code.BAD_JSON, detail) from error
    except RecursionError as error:
        raise _too_deep() from error
    if is_too_deep(value):
        raise _too_deep()
    if not isinstance(value, dict):
        raise ServiceError(Code.BAD_VALUE, "The body must be a JSON object.")
    return value


def parse_utf8(data: bytes, field: str = "") -> str:
    """The text of UTF-8 bytes. Raises ServiceError, whose detail begins with `field`."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ServiceError(Code.BAD_TEXT, f"{field}Send UTF-8.") from error
    if data.startswith(codecs.BOM_UTF8) and not is_missing(text):
        raise ServiceError(Code.BAD_TEXT, f"{field}Send UTF-8 without a byte order mark.")
    return text


def _media_type(content_type: str) -> str:
    """The content type without its parameters."""
    return content_type.split(";")[0].strip().lower()


def _too_deep() -> ServiceError:
    return ServiceError(Code.BAD_JSON, f"JSON may be nested {MAX_DEPTH} levels deep.")


def _object(pairs: Sequence[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ServiceError(Code.BAD_JSON, "An object has a name more than once; send each name once.")
    return value


def _parse_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ServiceError(Code.BAD_VALUE, f"A number may have {_MAX_DIGITS} digits.")
    return int(digits)


def _refuse_constant(_: str) -> NoReturn:
    raise ServiceError(Code.BAD_VALUE, "NaN and Infinity are not numbers of JSON.")
