"""The fault tests' own tools."""

from __future__ import annotations

import urllib.request

import pytest

from tests.faults.report import ROWS


def test_a_service_to_attack_starts_answers_and_counts(shelf, server):
    shelf.publish("fruit")
    running = server(shelf.store)

    with urllib.request.urlopen(f"{running.base}/readyz", timeout=10) as response:
        assert response.status == 200
    assert running.metric('mora_model_loads_total{result="loaded",task="fruit"}') == 1
    assert running.resident_bytes > 1e7
    assert running.open_files > 3


def test_a_figure_that_misses_its_goal_fails_its_test(reliability):
    with pytest.raises(AssertionError, match="3 lost, where 0 lost is wanted"):
        reliability("control", "0 lost", "3 lost", reached=False)
    assert not ROWS.pop().reached
