"""One-line messages for errors of the operating system and of pydantic."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_CURES = {
    errno.ENOTDIR: "a part of the path is a file, not a folder; correct the path",
    errno.EISDIR: "name a file in this folder",
    errno.EEXIST: "choose another name; existing files are not replaced",
    errno.EACCES: "change its permissions (ls -ld shows them), or run this as another user",
    errno.EPERM: "change its owner or permissions (ls -ld shows them), or run this as another user",
    errno.EROFS: "choose a folder on a writable file system",
    errno.ENOSPC: "free space on the disk (df -h shows it) and run this again",
    errno.EDQUOT: "free space within the quota and run this again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "choose another port, or stop the process that listens on it",
    errno.EADDRNOTAVAIL: "name an address of this machine; 0.0.0.0 means all of them",
}

_PROBLEMS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text (in quotes)",
    "model_type": "must be a group of fields",
    "tuple_type": "must be a list",
}


def printable(text: str) -> str:
    """The text with escapes in place of line breaks and of characters that would steer a terminal or be invisible."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def describe_error(error: Exception) -> str:
    """The message of an error; of one of the operating system, `describe_os_error`."""
    return describe_os_error(error) if isinstance(error, OSError) else str(error)


def describe_os_error(error: OSError) -> str:
    """The file, the problem, and the remedy if one is known."""
    if error.strerror is None:
        return str(error)
    problem = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    cure = _missing_path(error) if error.errno == errno.ENOENT else _CURES.get(error.errno or 0)
    return f"{problem}; {cure}" if cure else problem


def _missing_path(error: OSError) -> str:
    """The remedy for a path that does not exist, which may be to be read or to be written."""
    folder = Path(error.filename).parent if isinstance(error.filename, str) else Path()
    return "correct the path" if folder.is_dir() else f"correct the path: there is no folder {folder}"


def describe_field_error(error: ErrorDetails) -> str:
    """The problem of a field, without its value."""
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    return _PROBLEMS.get(error["type"], message)


def describe_validation_error(error: ValidationError) -> Sequence[str]:
    """Each invalid field with its problem, without the values."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, problem['loc'])) or 'file'}: {describe_field_error(problem)}" for problem in problems]


def quoted(path: object) -> str:
    """A path as a word of a shell command that a message names."""
    return shlex.quote(str(path))
