from __future__ import annotations

import pytest

from service.models.back_off import BackOff


@pytest.mark.parametrize(
    ("longest", "waits"), [(30.0, [1, 2, 4, 8, 16, 30, 30]), (3.0, [1, 2, 3, 3]), (0.5, [0.5, 0.5])]
)
def test_the_time_to_the_next_attempt_doubles_up_to_its_limit(clock, longest, waits):
    attempts = BackOff[str](longest)

    for seconds in waits:
        attempts.fail("fruit", is_final=False)
        clock(seconds - 0.01)
        assert attempts.is_waiting("fruit")
        assert not attempts.is_due("fruit")
        clock(0.01)
        assert not attempts.is_waiting("fruit")
        assert attempts.is_due("fruit")


def test_without_a_wait_the_next_attempt_is_due_at_once():
    attempts = BackOff[str](0)
    attempts.fail("fruit", is_final=False)

    assert attempts.is_due("fruit")


def test_after_a_final_failure_there_is_no_attempt(clock):
    attempts = BackOff[str](30)
    attempts.fail("fruit", is_final=True)
    clock(1e9)

    assert attempts.is_waiting("fruit")
    assert not attempts.is_due("fruit")


def test_a_key_that_never_failed_or_is_forgotten_neither_waits_nor_is_due(clock):
    attempts = BackOff[str](30)
    for _ in range(4):
        attempts.fail("fruit", is_final=False)
    attempts.forget("fruit")

    assert not attempts.is_waiting("fruit")
    assert not attempts.is_due("fruit")
    attempts.fail("fruit", is_final=False)
    clock(1)
    assert attempts.is_due("fruit"), "the first wait is short again"


def test_keys_that_clients_choose_take_limited_memory(clock):
    attempts = BackOff[int](30)
    for number in range(3000):
        attempts.fail(number, is_final=True)

    waiting = [number for number in range(3000) if attempts.is_waiting(number)]
    assert waiting == list(range(3000 - len(waiting), 3000))
    assert 500 < len(waiting) < 2000


@pytest.mark.parametrize("failures", [1, 3, 20])
def test_a_cheap_attempt_may_be_repeated_after_a_second_whatever_failed_before(clock, failures):
    attempts = BackOff[str](30)
    for _ in range(failures):
        attempts.fail("fruit", is_final=False)
    attempts.fail("fruit", is_final=False, is_cheap=True)
    assert attempts.is_waiting("fruit")

    clock(1)

    assert attempts.is_due("fruit")
