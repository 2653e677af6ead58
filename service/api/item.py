"""An item to label, made of the fields of a request or of a data set's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from model_store import Pattern
from service.api.requests import Input, check_item, validate
from service.errors import Code, ServiceError


@dataclass(frozen=True)
class Item:
    """The input of one classification: an encoded picture, a text, or both."""

    image: bytes | None = None
    text: str | None = None

    @property
    def pattern(self) -> Pattern:
        """The modalities that the item has."""
        return pattern_of(self.image is not None, self.text is not None)


class Batch(NamedTuple):
    """A parsed `BatchRequest`. An invalid input is represented by its error."""

    inputs: Sequence[Item | ServiceError]
    tasks: Sequence[str]
    top_k: int
    coverage: float | None
    timeout_ms: int | None


def pattern_of(has_image: bool, has_text: bool) -> Pattern:
    """The presence pattern of an item that has at least one modality."""
    if has_image:
        return Pattern.BOTH if has_text else Pattern.IMAGE
    return Pattern.TEXT


def parse_item(fields: object, max_text_bytes: int) -> Item | ServiceError:
    """The item with the fields of an `Input`, or the error of the first invalid one."""
    try:
        if not isinstance(fields, dict):
            raise ServiceError(Code.BAD_VALUE, "An input must be a JSON object.")
        form = validate(Input, fields, strict=True)
        check_item(form, max_text_bytes)
    except ServiceError as error:
        return error
    return Item(form.image, form.text)
