"""One blob into a file, from remotes that cut, lengthen, alter and refuse it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from model_store import blob_of
from model_store.transfer import TransferError, UnreachableError
from model_store.transfer.receiving import receive
from model_store.transfer.remote import PIECE_BYTES

CONTENT = bytes(range(256)) * 10
BLOB = blob_of(CONTENT)


class Scripted:
    """A remote whose answers are given one by one; an error ends an answer."""

    name = "the remote"

    def __init__(self, *answers: list[bytes | Exception]) -> None:
        self.answers = list(answers)
        self.offsets: list[int] = []

    def fetch(self, blob, offset) -> Iterator[bytes]:
        self.offsets.append(offset)
        for piece in self.answers.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "blob").open("w+b") as file:
        yield file


@pytest.fixture
def waits(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("model_store.transfer.receiving.sleep", waits.append)
    return waits


def content_of(file) -> bytes:
    file.seek(0)
    return file.read()


@pytest.mark.parametrize("before", [0, 1, 1000, len(CONTENT) - 1, len(CONTENT)])
def test_a_file_is_completed_from_where_it_ends(file, waits, before):
    file.write(CONTENT[:before])
    remote = Scripted([CONTENT[before:]])
    moved: list[int] = []

    receive(remote, BLOB, file, moved.append)

    assert content_of(file) == CONTENT
    assert sum(moved) == len(CONTENT) - before
    assert remote.offsets == ([before] if before < len(CONTENT) else [])


@pytest.mark.parametrize("garbage", [b"?" * 10, b"?" * len(CONTENT), b"?" * (len(CONTENT) + 1), CONTENT[:100] + b"?"])
def test_a_file_that_was_damaged_is_begun_again(file, waits, garbage):
    file.write(garbage)
    rest = [] if len(garbage) >= len(CONTENT) else [[CONTENT[len(garbage) :]]]

    receive(Scripted(*rest, [CONTENT]), BLOB, file, lambda count: None)

    assert content_of(file) == CONTENT


def test_breaks_are_resumed_with_growing_waits(file, waits):
    remote = Scripted(
        [CONTENT[:100], UnreachableError("x")], [UnreachableError("x")], [CONTENT[100:200]], [CONTENT[200:]]
    )

    with pytest.raises(UnreachableError, match="the remote sent 200 of the 2560 bytes of blob"):
        receive(remote, BLOB, file, lambda count: None)

    assert waits == [0.5, 1.0]
    assert content_of(file) == CONTENT[:200], "for the next call"
    receive(remote, BLOB, file, lambda count: None)
    assert content_of(file) == CONTENT
    assert remote.offsets == [0, 100, 100, 200]


def test_a_remote_that_breaks_often_but_brings_a_megabyte_each_time_is_not_given_up(file, waits):
    content = os.urandom(10 * PIECE_BYTES)
    pieces = [content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES)]
    breaks = [answer for piece in pieces for answer in ([piece, UnreachableError("x")], [UnreachableError("x")])]

    receive(Scripted(*breaks), blob_of(content), file, lambda count: None)

    assert content_of(file) == content


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([[b"?" * len(CONTENT)]], "sent other bytes than blob"),
        ([[CONTENT, b"x"]], "sent more than the 2560 bytes"),
        ([[CONTENT[:100]], [CONTENT]], "sent more than the 2560 bytes"),
        ([[TransferError("refused")]], "refused"),
    ],
)
def test_other_bytes_are_refused_and_do_not_stay(file, waits, answers, problem):
    with pytest.raises(TransferError, match=problem):
        receive(Scripted(*answers), BLOB, file, lambda count: None)
    assert content_of(file) == b""


@pytest.mark.parametrize("before", [0, 1000, 3 * PIECE_BYTES])
def test_other_bytes_that_break_off_are_fetched_twice_at_most(file, waits, before):
    """A server that cuts each answer after a megabyte, and has another file in the place of the blob."""
    blob = blob_of(b"right" * PIECE_BYTES)
    file.write(b"?" * before)
    moved: list[int] = []

    def cut() -> Iterator[bytes | Exception]:
        yield b"wrong" * (PIECE_BYTES // 5 + 1)
        yield UnreachableError("cut")

    class Wrong(Scripted):
        def fetch(self, blob, offset) -> Iterator[bytes]:
            assert sum(moved) <= 2 * blob.size, "it goes on for ever"
            self.answers = [cut() if blob.size - offset > 2 * PIECE_BYTES else [b"?" * (blob.size - offset)]]
            return super().fetch(blob, offset)

    with pytest.raises(TransferError, match="sent other bytes than blob"):
        receive(Wrong(), blob, file, moved.append)
    assert content_of(file) == b""


def test_an_endless_answer_ends(file, waits):
    with pytest.raises(TransferError, match="sent more than"):
        receive(Scripted(iter(lambda: b"x" * 100, None)), BLOB, file, lambda count: None)
    assert content_of(file) == b""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_error_is_the_error(tmp_path, waits, code):
    class Full:
        """A file on a disk that takes no more."""

        def __init__(self, file) -> None:
            self.file = file

        def __getattr__(self, name: str):
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            raise OSError(code, os.strerror(code))

    with (tmp_path / "blob").open("w+b") as file, pytest.raises(OSError, match=os.strerror(code)):
        receive(Scripted([CONTENT]), BLOB, Full(file), lambda count: None)
