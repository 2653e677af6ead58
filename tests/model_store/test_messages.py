"""Messages for errors of the operating system and of pydantic."""

from __future__ import annotations

import errno
import os

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from model_store.messages import describe_os_error, describe_validation_error, printable


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOENT, "correct the path"),
        (errno.EISDIR, "name a file in this folder"),
        (errno.ENOSPC, "free space on the disk"),
        (errno.EROFS, "choose a folder on a writable file system"),
        (errno.EACCES, "change its permissions"),
    ],
)
def test_a_system_error_has_the_file_the_cause_and_the_remedy(number, cure):
    message = describe_os_error(OSError(number, os.strerror(number), "runs/shop"))

    assert message.startswith(f"runs/shop: {os.strerror(number)}; ")
    assert cure in message
    assert "Errno" not in message


def test_a_path_that_does_not_exist_is_to_be_corrected(tmp_path, monkeypatch):
    """Whether it was to be read or to be written; the folder is named only if that is missing."""
    monkeypatch.chdir(tmp_path)
    words = os.strerror(errno.ENOENT)

    def described(path):
        return describe_os_error(FileNotFoundError(errno.ENOENT, words, path))

    assert described("gone.png") == f"gone.png: {words}; correct the path"
    assert described("photos/gone.png") == f"photos/gone.png: {words}; correct the path: there is no folder photos"


def test_an_error_without_a_number_keeps_its_words():
    assert describe_os_error(OSError("no such dice")) == "no such dice"
    assert describe_os_error(OSError(errno.EIO, "Input/output error")) == "Input/output error"


class Shop(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    size: int
    kind: dict[str, float] = {}


def test_fields_are_named_in_plain_words_without_their_values():
    with pytest.raises(ValidationError) as error:
        Shop.model_validate({"size": "do not echo", "kind": {"a": "b"}, "colour": 1})

    assert describe_validation_error(error.value) == [
        "name: is missing",
        "size: must be a whole number",
        "kind.a: must be a number",
        "colour: is not a field",
    ]


def test_what_would_steer_a_terminal_is_printed_as_an_escape():
    assert printable("caf\u00e9 \x1b[31mred\x07\n\u200b\udcff") == "caf\u00e9 \\x1b[31mred\\x07\\n\\u200b\\udcff"
