"""SIGHUP and SIGUSR1 of a process that uses nothing else of the service; tests/faults/load/test_signals.py has one."""

from __future__ import annotations

import logging
import os
import signal

import pytest

from service.telemetry.log_lines import LogLines
from service.web.operator_signals import OperatorSignals, ignore_operator_signals
from tests.support.waiting import eventually

NUMBERS = (signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers():
    """The process's own handlers come back."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("times", [1, 2, 50])
def test_sighup_asks_for_one_reading_however_often_it_comes(times):
    operator = OperatorSignals()
    assert not operator.take_reading()
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGHUP)

    assert operator.take_reading()
    assert not operator.take_reading()


@pytest.mark.parametrize("times", [1, 2, 50])
def test_sigusr1_logs_stacks(events, times):
    logging.getLogger().addHandler(LogLines())
    operator = OperatorSignals()
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGUSR1)
    eventually(lambda: "MainThread" in {event.get("thread") for event in events})
    assert not operator.take_reading()


def test_ignored_signals_do_nothing():
    ignore_operator_signals()
    for number in NUMBERS:
        os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN


def test_a_system_without_these_signals_is_no_error(monkeypatch):
    for name in ("SIGHUP", "SIGUSR1"):
        monkeypatch.delattr(signal, name)
    ignore_operator_signals()
    assert not OperatorSignals().take_reading()
