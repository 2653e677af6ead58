"""Ctrl-C while an object is being made. The errors themselves are tested with the commands."""

from __future__ import annotations

import sys
import warnings

import pytest
import typer

from service.labelling.command_errors import one_line_errors


class HalfMade:
    """Ctrl-C interrupts its construction, so its destructor misses an attribute, as that of an event loop may."""

    def __init__(self) -> None:
        raise KeyboardInterrupt
        self.signals = []

    def __del__(self) -> None:
        self.signals.clear()


def test_a_half_made_object_adds_no_line_to_that_of_the_interruption(monkeypatch, capsys):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    with pytest.raises(typer.Exit) as exit_of, one_line_errors("stopped; no file was written"):
        HalfMade()
    code = exit_of.value.exit_code
    del exit_of

    assert (code, capsys.readouterr().err) == (130, "stopped; no file was written\n")
    assert ignored == []


def test_a_coroutine_that_was_not_started_adds_no_warning(capsys):
    async def answer() -> None: ...

    def start() -> None:
        _coroutine = answer()
        raise KeyboardInterrupt

    recorded = warnings.catch_warnings(record=True, action="always")
    with recorded as shown, pytest.raises(typer.Exit), one_line_errors("stopped"):
        start()

    assert capsys.readouterr().err == "stopped\n"
    assert shown == []


def test_other_failing_destructors_are_reported(monkeypatch):
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    with pytest.raises(typer.Exit), one_line_errors("stopped"):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HalfMade()

    assert len(ignored) == 1
