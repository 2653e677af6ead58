"""The times of one request."""

from __future__ import annotations

import pytest

from model_store import Pattern
from service.telemetry import record as module
from service.telemetry.record import SAFE_ID, RequestRecord, Stage


@pytest.fixture
def clock(monkeypatch):
    """A clock at 100 seconds; `clock[0] = ...` sets it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_a_deadline_counts_from_the_arrival(clock):
    record = RequestRecord(started=100.0)
    clock[0] = 107.0

    record.allow(2_500)

    assert record.deadline == 102.5
    assert record.elapsed_seconds == 7.0


def test_the_runs_of_a_stage_are_summed_and_listed(clock):
    record = RequestRecord(started=100.0)
    record.add(Stage.QUEUE, 0.5, started=90.0)
    record.add(Stage.QUEUE, 0.25)

    assert record.stage_seconds == {Stage.QUEUE: 0.75}
    assert record.runs == [(Stage.QUEUE, 90.0, 0.5), (Stage.QUEUE, 99.75, 0.25)]


def test_milliseconds_has_every_stage_and_the_total(clock):
    record = RequestRecord(started=100.0)
    record.add(Stage.HEAD, 0.0012344)
    clock[0] = 101.5

    latency = record.finish()

    others = ["decode", "tokenize", "queue", "image_encoder", "text_encoder"]
    expected = {**dict.fromkeys(others, 0.0), "head": 1.234, "total": 1500.0}
    assert latency.model_dump() == record.milliseconds() == expected


@pytest.mark.parametrize(("request_id", "is_safe"), [("a-Z.9_:", True), ("", False), ("a b", False), ("a\n", False)])
def test_a_safe_id_needs_no_quotes_in_a_header_or_a_log(request_id, is_safe):
    assert bool(SAFE_ID.fullmatch(request_id)) == is_safe


@pytest.mark.parametrize(
    ("status", "answers", "cells", "counted"),
    [
        (200, 1, {}, {("fruit", "text", 200, None): 1}),
        (200, 3, {("fruit", "image", 200, None): 1, ("", "", 404, "unknown_task"): 2}, None),
        (422, 4800, {}, {("fruit", "text", 422, None): 1}),
        (503, 4800, {}, {("fruit", "text", 503, None): 4800}),
        (499, 2, {("fruit", "image", 200, None): 2}, {("fruit", "text", 499, None): 2}),
    ],
    ids=["one item", "a batch", "a refused batch", "a batch that failed", "a batch whose client has left"],
)
def test_a_batch_is_counted_by_cells(status, answers, cells, counted):
    record = RequestRecord(task="fruit", pattern=Pattern.TEXT, answers=answers)
    record.cells.update(cells)

    assert record.counted(status) == (cells if counted is None else counted)
