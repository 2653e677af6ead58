"""Alerts under the labels of compose, Kubernetes and Ray: planted outages and healthy days."""

from __future__ import annotations

import shutil

import pytest
import yaml

from tests.support.promql import CASES, RULES
from tests.support.promtool import promtool, schemes, write_case

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="ALERTS ARE NOT TRIED: promtool is missing (Debian: apt install prometheus)",
)


def wrong(folder, scheme: str, rules: str | None = None) -> list[str]:
    """The files of cases in which an alert is missing, or fires where it should not."""
    written = [write_case(path, schemes()[scheme], folder, rules) for path in CASES]
    return [path.name for path in written if promtool("test", "rules", path).returncode]


@pytest.mark.parametrize("scheme", schemes())
def test_alerts_fire_on_planted_outages_and_are_silent_on_healthy_days(tmp_path, counts, reliability, scheme):
    if counts(True, False):
        pytest.skip("tests/deploy/test_prometheus.py tries the same; this is the row of `make faults`")
    checks = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    outages = sum(bool(case["exp_alerts"]) for test in checks for case in test.get("alert_rule_test", []))

    found = wrong(tmp_path, scheme)

    what = f"{outages} planted outages and {len(checks)} courses without them, labels of {scheme}"
    reliability(what, "0 wrong", f"{len(found)} wrong", not found)


def test_control_rules_that_name_a_job_are_found(tmp_path, reliability):
    for path in RULES:
        text = path.read_text().replace("instance:mora_replica:up ==", 'up{job="mora"} ==')
        (tmp_path / f"rules-{path.name}").write_text(text)

    found = wrong(tmp_path, "kubernetes by annotations", f"{tmp_path}/rules-*.yml")

    reliability("*control*: rules that select job=mora", "found", f"wrong in {', '.join(found)}", bool(found))
