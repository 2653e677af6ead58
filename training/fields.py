"""What is wrong with a configuration, or differs in two, field by field."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from model_store.messages import describe_field_error

_MAX_SHOWN = 60  # characters of a value


def complaints(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each field that is wrong, with the cause and what is there."""
    known = [*_dotted(model)]
    return [_complaint(problem, known) for problem in error.errors(include_url=False)]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], group: str = "") -> list[str]:
    """Each field that is not what it was, in two configurations as JSON."""
    found: list[str] = []
    for name in [*now, *(before.keys() - now.keys())]:
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{group}{name}.")
        elif old != new:
            found.append(f"{group}{name} was {old}, now {new}")
    return found


def _complaint(problem: ErrorDetails, known: list[str]) -> str:
    name, kind, found = ".".join(map(str, problem["loc"])) or "file", problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{name}: is not a field; the closest is {_closest(name, known)}"
    if (name, kind) == ("task", "string_pattern_mismatch"):
        wanted = "must be up to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
    else:
        wanted = describe_field_error(problem)
    is_shown = isinstance(found, str | int | float) and len(repr(found)) <= _MAX_SHOWN
    return f"{name}: {wanted}, not {found!r}" if is_shown else f"{name}: {wanted}"


def _closest(name: str, known: list[str]) -> str:
    """The field of the same last name (`epochs`: `train.epochs`), else the one that is spelt most alike."""
    last = name.rpartition(".")[2]
    alike = [field for field in known if field.rpartition(".")[2] == last]
    return (alike or difflib.get_close_matches(name, known, n=1, cutoff=0.0))[0]


def _dotted(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{before}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted(field.annotation, f"{before}{name}.")
