"""Refused versions: what is logged and counted, and when they are tried again."""

from __future__ import annotations

import pytest

from model_store import CorruptError, NotFoundError, UntrustedError
from service.models.refusal import RefusedError
from service.models.refusals import Refusals
from service.telemetry.metrics import Metrics

OF_FILES = [
    CorruptError("cut", "size"),
    CorruptError("locked", "unreadable"),
    NotFoundError("gone"),
    UntrustedError(""),
]


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(Metrics(), 30)


@pytest.mark.parametrize("error", OF_FILES, ids=repr)
def test_a_fault_of_the_files_is_tried_every_second_and_logged_once(refusals, events, clock, error):
    for _ in range(20):
        refusals.refuse_live("fruit", 1, error)
        assert not refusals.is_live_due("fruit")
        clock(1)
        assert refusals.is_live_due("fruit")

    assert len(events) == 1


@pytest.mark.parametrize("other", [(1, CorruptError("longer", "size")), (2, CorruptError("cut", "size"))])
def test_another_fault_is_logged_again(refusals, events, other):
    refusals.refuse_live("fruit", 1, CorruptError("cut", "size"))
    refusals.refuse_live("fruit", *other)
    assert len(events) == 2


def test_a_shortage_is_logged_at_each_attempt_and_a_wrong_version_is_not_tried_again(refusals, events, clock):
    for _ in range(3):
        refusals.refuse_live("fruit", 1, RefusedError("load", "no memory"))
    assert len(events) == 3

    refusals.refuse_live("fruit", 2, RefusedError("golden_mismatch", "wrong"))
    clock(1e6)
    assert not refusals.is_live_due("fruit")
    refusals.retry_live("fruit")
    assert not refusals.is_waiting("fruit", 3)
    assert refusals.is_waiting("fruit", 2)
    refusals.retry_all()
    assert not refusals.is_waiting("fruit", 2)


def test_only_files_that_the_system_refuses_to_read_make_the_store_unreadable(refusals):
    for number, error in enumerate(OF_FILES):
        refusals.refuse_live(f"task-{number}", 1, error)
    assert refusals.unreadable() == ["locked"]
    assert len(refusals.tasks()) == len(OF_FILES)
    refusals.clear_live("task-1")
    assert refusals.unreadable() == []
    assert refusals.of_live("task-1") is None
