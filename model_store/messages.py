"""What a person is told of errors that are not ours: the operating system's and pydantic's, each on one line."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_CURES = {
    errno.ENOENT: "mend the path, or make its folder",
    errno.ENOTDIR: "a file stands where a folder must be; mend the path",
    errno.EISDIR: "name a file in it",
    errno.EEXIST: "choose another name; nothing is replaced",
    errno.EACCES: "change its permissions (ls -ld shows them), or run this as a user who may",
    errno.EPERM: "change its owner or permissions (ls -ld shows them), or run this as a user who may",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: "make room on the disk (df -h shows how much there is) and run this again",
    errno.EDQUOT: "make room within the quota and run this again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EADDRINUSE: "choose another port, or stop what listens there",
    errno.EADDRNOTAVAIL: "name an address of this machine; 0.0.0.0 is all of them",
}

_PLAIN = {
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


def describe_os_error(error: OSError) -> str:
    """The file, what is wrong with it, and the way out."""
    if error.strerror is None:
        return str(error)
    problem = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    cure = _CURES.get(error.errno or 0)
    return f"{problem}; {cure}" if cure else problem


def describe_field_error(problem: ErrorDetails) -> str:
    """What is wrong with a field, without its value."""
    plain = _PLAIN.get(problem["type"])
    return plain or problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)


def describe_validation_error(error: ValidationError) -> Sequence[str]:
    """Each field with what is wrong with it, without the values found there."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, problem['loc'])) or 'file'}: {describe_field_error(problem)}" for problem in problems]
