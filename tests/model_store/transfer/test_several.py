"""Several blobs at a time."""

from __future__ import annotations

import threading

import pytest

from model_store import blob_of
from model_store.transfer.several import move_all, those_without

BLOBS = [blob_of(bytes([number])) for number in range(20)]


def test_all_are_moved_and_counted():
    moved, counts = [], []

    def move(blob, advance):
        advance(blob.size)
        moved.append(blob)

    move_all(BLOBS, move, counts.append)

    assert sorted(moved, key=BLOBS.index) == BLOBS
    assert counts == [1] * 20


def test_the_first_failure_stops_the_others_at_their_next_piece():
    started, pieces = threading.Barrier(4), []

    def move(blob, advance):
        started.wait(30)
        if blob == BLOBS[0]:
            raise ValueError("the first")
        for _ in range(10**7):
            advance(1)

    with pytest.raises(ValueError, match="the first"):
        move_all(BLOBS, move, pieces.append)
    assert len(pieces) < 3 * 10**7


def test_a_move_that_waits_for_four_at_a_time_ends():
    together = threading.Barrier(4)

    move_all(BLOBS, lambda blob, advance: together.wait(30) and None, lambda count: None)


def test_those_without_keep_their_order():
    assert those_without(BLOBS, lambda blob: blob in BLOBS[5:]) == BLOBS[:5]
    assert those_without([], lambda blob: True) == []
