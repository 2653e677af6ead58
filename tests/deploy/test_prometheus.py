"""The configuration of Prometheus: valid, about metrics that exist, every alert tried and explained."""

from __future__ import annotations

import itertools
import re
import shutil

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.utils import floatToGoString

from service.telemetry.metrics import Metrics
from tests.support.promql import (
    CASES,
    ROOT,
    RULES,
    alerts,
    expressions,
    groups,
    known_metrics,
    metrics_in,
    runbook_expressions,
)
from tests.support.promtool import promtool, schemes, write_case
from tests.support.sampling import each

PROMETHEUS = ROOT / "docker/prometheus"
CONFIGS = ["prometheus.yml", "ray.yml"]
KUBERNETES = ROOT / "docker/kubernetes"
RUNBOOKS = ROOT / "docs/runbooks"
CASE_OF = {path.stem: path for path in CASES}
ALERTS = {alert["alert"]: alert for alert in alerts()}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="PROMETHEUS' RULES ARE NOT TRIED: promtool is missing; install it (Debian, Ubuntu: apt install prometheus)",
)


@needs_promtool
@pytest.mark.parametrize("name", CONFIGS)
def test_the_configuration_is_valid(name):
    done = promtool("check", "config", PROMETHEUS / name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_the_rules_are_valid(path):
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("scheme", "case"),
    each(
        itertools.product(schemes(), CASE_OF),
        # the targets of the first share their job with others; the other cases hardly depend on labels
        tried=[*itertools.product(["kubernetes by annotations"], CASE_OF), *itertools.product(schemes(), ["replicas"])],
    ),
)
@pytest.mark.slow
def test_alerts_fire_when_they_should_and_only_then(scheme, case, tmp_path):
    done = promtool("test", "rules", write_case(CASE_OF[case], schemes()[scheme], tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


WRONG_ALERTS = [
    ("instance:mora_replica:up == 1 unless", 'up{job="mora"} == 1 unless', "replicas", "MoraNoModel"),
    ("(instance:mora_replica:up == 1)", '(up{job="mora"} == 1)', "replicas", "MoraReplicasMissing"),
    ("expr: instance:mora_replica:up == 0", "expr: up < 2", "replicas", "MoraTargetDown"),
    ("[1h])) >= 10", "[1h])) >= 0", "objectives", "MoraAvailabilityFastBurn"),
    ('le="0.0"', 'le="1.0"', "label_sets", "MoraReviewDrift"),
    ("set_size_count[1h])) >= 100", "set_size_count[1h])) >= 0", "label_sets", "MoraReviewDrift"),
    ("(mora_training_label_set_size), 1)", "(mora_training_label_set_size), 0)", "label_sets", "MoraSetSizeDrift"),
]


@needs_promtool
@pytest.mark.parametrize(("planted", "instead", "case", "found"), each(WRONG_ALERTS, tried=WRONG_ALERTS[1:2]))
@pytest.mark.slow
def test_an_alert_that_is_wrong_is_found(planted, instead, case, found, tmp_path):
    assert planted in "".join(path.read_text() for path in RULES)
    for path in RULES:
        (tmp_path / f"rules-{path.name}").write_text(path.read_text().replace(planted, instead))
    written = write_case(CASE_OF[case], schemes()["kubernetes by annotations"], tmp_path, f"{tmp_path}/rules-*.yml")

    done = promtool("test", "rules", written)

    assert done.returncode != 0
    assert found in done.stdout + done.stderr


def test_the_operator_gets_the_same_rules():
    (rule,) = yaml.safe_load_all((KUBERNETES / "rules.yaml").read_text())
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == {"groups": groups()}, "make rules"


@needs_promtool
def test_the_operator_accepts_the_rules(tmp_path):
    (rule,) = yaml.safe_load_all((KUBERNETES / "rules.yaml").read_text())
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rule["spec"]))
    done = promtool("check", "rules", tmp_path / "rules.yml")  # it also refuses two groups of one name
    assert done.returncode == 0, done.stdout + done.stderr


def seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def test_every_alert_and_every_window_outlasts_some_scrapes():
    """One lost scrape is no alert, and a rate needs two samples."""
    configs = [yaml.safe_load((PROMETHEUS / name).read_text()) for name in CONFIGS]
    (monitor,) = yaml.safe_load_all((KUBERNETES / "monitoring.yaml").read_text())
    intervals = [config["global"]["scrape_interval"] for config in configs]
    intervals += [endpoint["interval"] for endpoint in monitor["spec"]["endpoints"]]
    rules = [rule for group in groups() for rule in group["rules"]]
    windows = itertools.chain.from_iterable(re.findall(r"\[(\d+[smhd])\]", rule["expr"]) for rule in rules)
    shortest = min(seconds(window) for window in [*windows, *(rule["for"] for rule in rules if "for" in rule)])
    assert shortest >= 4 * max(map(seconds, intervals))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent():
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    cases = {
        (case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test.get("alert_rule_test", [])
    }
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


def test_bounds_that_expressions_name_are_bounds_of_the_histogram():
    named = set(re.findall(r'(\w+)_bucket\{[^}]*\ble="([^"]+)"', "\n".join(expressions())))
    buckets = {
        (each._name, floatToGoString(bound))
        for each in vars(Metrics()).values()
        if isinstance(each, Histogram)
        for bound in each._kwargs["buckets"]
    }
    assert {name for name, _ in named} == {"mora_request_duration_seconds", "mora_label_set_size"}
    assert named <= buckets


def test_prometheus_scrapes_the_services_of_compose():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (scrape,) = (job["dns_sd_configs"] for job in config["scrape_configs"] if job["job_name"] == "mora")
    port = int(compose["service"]["environment"]["MORA_METRICS_PORT"])
    assert [(where["names"], where["type"], where["port"]) for where in scrape] == [(["service"], "A", port)]
    assert f"< {compose['service']['deploy']['replicas']}" in ALERTS["MoraReplicasMissing"]["expr"]
