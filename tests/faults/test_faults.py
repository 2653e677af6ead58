"""The fault tests' own tools."""

from __future__ import annotations

import urllib.request

import pytest

from tests.support.faults.report import Row, write_report


def test_a_service_to_attack_starts_answers_and_counts(shelf, server):
    shelf.publish("fruit")
    running = server(shelf.store)

    with urllib.request.urlopen(f"{running.base}/readyz", timeout=10) as response:
        assert response.status == 200
    assert running.metric('mora_model_loads_total{result="loaded",task="fruit"}') == 1
    assert running.resident_bytes > 1e7
    assert running.open_files > 3


ROW = Row("10 kills", "0 lost", "3 lost", False, 1, "test_faults.py::test_a_figure_that_misses_its_goal_fails_its_test")


def test_a_figure_that_misses_its_goal_fails_its_test():
    with pytest.raises(AssertionError, match="10 kills: 3 lost, where 0 lost is wanted"):
        ROW.check()
    ROW._replace(reached=True).check()


def test_rows_of_other_tests_stay_as_long_as_their_tests(tmp_path):
    page = tmp_path / "reliability.md"
    other = ROW._replace(test="test_faults.py::test_rows_of_other_tests_stay_as_long_as_their_tests")
    write_report(page, [ROW, other, ROW._replace(test="test_faults.py::test_that_went", measured="gone")])

    write_report(page, [ROW._replace(measured="2 lost"), ROW._replace(what="20 kills")])

    text = page.read_text()
    rows = [line for line in text.splitlines() if "::" in line]
    assert [line.split(" | ")[0] for line in rows] == ["| 10 kills", "| 20 kills", "| 10 kills"]
    assert [line.split(" | ")[2] for line in rows] == ["2 lost", "3 lost", "3 lost"]
    assert all("**no**" in line for line in rows)


def test_rows_of_another_machine_go(tmp_path):
    page = tmp_path / "reliability.md"
    write_report(page, [ROW])
    page.write_text(page.read_text().replace("- machine: ", "- machine: 1000"))

    write_report(page, [ROW._replace(test="test_faults.py::test_rows_of_another_machine_go")])

    assert sum("::" in line for line in page.read_text().splitlines()) == 1
