"""Content that arrives too slowly, or has no end."""

from __future__ import annotations

import itertools

import pytest

from model_store.transfer import TransferError, UnreachableError
from model_store.transfer.remote import PIECE_BYTES
from model_store.transfer.steady import SLOWEST_SECONDS, from_byte, steady, whole


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: so much time passes at each look."""

    def passes(seconds: float) -> None:
        times = itertools.count(0.0, seconds)
        monkeypatch.setattr("model_store.transfer.steady.monotonic", lambda: next(times))

    return passes


@pytest.mark.parametrize(("size", "seconds"), [(1, 1.0), (1000, 20.0), (PIECE_BYTES - 1, SLOWEST_SECONDS + 1)])
def test_a_drip_ends(clock, size, seconds):
    clock(seconds)

    with pytest.raises(UnreachableError, match="the place sends less than 1,048,576 bytes in 60 seconds"):
        list(steady(itertools.repeat(b"x" * size, 100), "the place"))


def test_a_drip_ends_in_the_bytes_that_are_left_out(clock):
    clock(20.0)

    with pytest.raises(UnreachableError, match="the place sends less than"):
        list(from_byte(1000, itertools.repeat(b"x", 1000), "the place"))


@pytest.mark.parametrize("skipped", [0, 1, 4, 5, 11, 12])
def test_the_first_bytes_are_left_out(skipped):
    pieces = iter([b"1234", b"", b"56789", b"ab"])

    assert b"".join(from_byte(skipped, pieces, "the place")) == b"123456789ab"[skipped:]


def test_a_slow_but_steady_content_arrives_whole(clock):
    clock(SLOWEST_SECONDS / 3)

    assert sum(map(len, steady(iter([b"x" * PIECE_BYTES] * 50), "the place"))) == 50 * PIECE_BYTES


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x"] * 11, itertools.repeat(b"xx")])
def test_a_small_content_has_a_limit(pieces):
    with pytest.raises(TransferError, match="the file has more than 10 bytes"):
        whole(iter(pieces), 10, "the file")


def test_a_small_content_up_to_the_limit_is_whole():
    assert whole(iter([b"12345", b"", b"67890"]), 10, "the file") == b"1234567890"
    assert whole(iter([]), 10, "the file") == b""
