"""The configuration of Prometheus: valid, about metrics that exist, every alert tried and explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.utils import floatToGoString

from service.telemetry.metrics import Metrics
from tests.support.promql import ROOT, RULES, alerts, expressions, known_metrics, metrics_in, runbook_expressions

PROMETHEUS = ROOT / "docker/prometheus"
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs/runbooks"
ALERTS = {alert["alert"]: alert for alert in alerts()}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="PROMETHEUS' RULES ARE NOT TRIED: promtool is missing; install it (Debian, Ubuntu: apt install prometheus)",
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@needs_promtool
def test_the_configuration_is_valid():
    done = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_are_valid(path):
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(path):
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_an_unexpected_alert_fails_the_check(tmp_path):
    case = (PROMETHEUS / "tests/drift.yml").read_text().replace("../rules", str(PROMETHEUS / "rules"))
    (tmp_path / "drift.yml").write_text(re.sub(r"exp_alerts:\n(?: {10}.*\n)+", "exp_alerts: []\n", case))
    done = promtool("test", "rules", tmp_path / "drift.yml")
    assert done.returncode != 0
    assert 'alertname="MoraModalityDrift"' in done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent():
    groups = [group for path in CASES for group in yaml.safe_load(path.read_text())["tests"]]
    cases = {(case["alertname"], bool(case["exp_alerts"])) for group in groups for case in group["alert_rule_test"]}
    assert cases == {(name, fires) for name in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_is_and_has_a_runbook(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["What to look at", "What to do", "When it is harmless"]


def test_the_page_lists_every_alert():
    page = (ROOT / "docs/observability.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", page, re.MULTILINE)
    assert rows == [(name, name, alert["labels"]["severity"]) for name, alert in ALERTS.items()]


def test_there_is_no_runbook_without_an_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("found", [expressions(), runbook_expressions()], ids=["rules and dashboard", "runbooks"])
def test_expressions_are_about_metrics_that_exist(found):
    named = set().union(*map(metrics_in, found))
    assert len(named) > 20
    assert named - known_metrics() == set()


@pytest.mark.parametrize(
    "expression",
    [
        "sum by (task) (rate(mora_request_total[5m]))",
        'mora_queue_depth{encoder="image"} / mora_queue_capacity > 0.8',
        "histogram_quantile(0.5, rate(mora_batch_size[5m]))",
        "up == 0 or moro_model_info",
    ],
)
def test_a_misspelt_metric_is_found(expression):
    assert len(metrics_in(expression) - known_metrics()) == 1


def test_objectives_of_latency_are_bounds_of_the_histogram():
    named = {bound for expression in expressions() for bound in re.findall(r'\ble="([^"]+)"', expression)}
    assert named
    assert named <= {floatToGoString(bound) for bound in Metrics().request_duration._kwargs["buckets"]}


def test_prometheus_scrapes_the_services_of_compose():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (scrape,) = (job["dns_sd_configs"] for job in config["scrape_configs"] if job["job_name"] == "mora")
    port = int(compose["service"]["environment"]["MORA_METRICS_PORT"])
    assert [(where["names"], where["type"], where["port"]) for where in scrape] == [(["service"], "A", port)]
    assert f"< {compose['service']['deploy']['replicas']}" in ALERTS["MoraReplicasMissing"]["expr"]
