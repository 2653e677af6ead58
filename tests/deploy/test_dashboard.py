"""The dashboard: well-formed for Grafana, and every query of it and of the rules answered by a real Prometheus."""

from __future__ import annotations

import itertools
import re
import shutil
import urllib.parse
from collections.abc import Iterator

import pytest
import yaml

from tests.support.promql import DASHBOARD, DATASOURCE, ROOT, alerts, queries, rules, runbook_expressions
from tests.support.waiting import eventually, wait_until
from tests.support.watched import TASKS, Prometheus, watched_service

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = DASHBOARD["templating"]["list"]

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="THE DASHBOARD'S QUERIES ARE NOT TRIED: prometheus is missing; install it (Debian: apt install prometheus)",
)


def test_grafana_accepts_the_dashboard():
    assert DASHBOARD["id"] is None  # Grafana numbers it
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 39
    assert {"from", "to"} == DASHBOARD["time"].keys()
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert all(isinstance(identity, int) and identity > 0 for identity in identities)
    assert len(set(identities)) == len(identities)
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)


def test_every_panel_has_what_its_kind_needs():
    assert {panel["type"] for panel in DASHBOARD["panels"]} == {"row", "timeseries", "stat", "table"}
    for panel in PANELS:
        assert panel.keys() >= {"id", "type", "title", "gridPos", "datasource", "targets", "fieldConfig", "options"}
        assert panel["fieldConfig"].keys() == {"defaults", "overrides"}
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["range"] != target["instant"]
            assert (target.get("format") == "table") == (panel["type"] == "table")
    rows = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert all((row["collapsed"], row["panels"]) == (False, []) for row in rows)  # an open row has its panels after it


def overlapping(panels: list[dict]) -> list[tuple[str, str]]:
    """Pairs of panels that cover a cell of the grid both."""
    cells: dict[tuple[int, int], str] = {}
    found = []
    for panel in panels:
        at = panel["gridPos"]
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            if cells.setdefault(cell, panel["title"]) != panel["title"]:
                found.append((cells[cell], panel["title"]))
    return found


def test_panels_fit_the_grid_and_do_not_overlap():
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at.keys() == {"x", "y", "w", "h"}
        assert all(isinstance(value, int) and value >= 0 for value in at.values())
        assert at["w"] > 0 < at["h"]
        assert at["x"] + at["w"] <= 24, panel["title"]
    assert overlapping(DASHBOARD["panels"]) == []


def test_panels_that_overlap_are_found():
    first, second = PANELS[:2]
    assert overlapping([first, {**second, "gridPos": {**second["gridPos"], "x": first["gridPos"]["x"] + 1}}])


def test_every_query_uses_the_provisioned_data_source():
    (source,) = DATASOURCE["datasources"]
    targets = [target for panel in PANELS for target in panel["targets"]]
    marks = [mark for mark in DASHBOARD["annotations"]["list"] if not mark.get("builtIn")]
    for asking in [*PANELS, *targets, *VARIABLES, *marks]:
        assert asking["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_compose_mounts_the_provisioned_files():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert (ROOT / "docker/grafana/provisioning/dashboards").is_dir()
    assert mounts["./docker/grafana/provisioning"] == "/etc/grafana/provisioning"
    provider = yaml.safe_load((ROOT / "docker/grafana/provisioning/dashboards/mora.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == mounts["./docker/grafana/dashboards"]
    (source,) = DATASOURCE["datasources"]
    assert urllib.parse.urlsplit(source["url"]).hostname in services
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_every_variable_is_used_and_no_other():
    used = {name for _, query in queries() for name in re.findall(r"\$(\w+)", query)}
    assert used == {variable["name"] for variable in VARIABLES} | {"__rate_interval"}
    assert {variable["name"] for variable in VARIABLES} == {"task", "instance"}


def test_windows_follow_the_time_range_that_is_shown():
    """Longer ones are recorded under names that say so."""
    assert {window for _, query in queries() for window in re.findall(r"\[([^]]*)\]", query)} == {"$__rate_interval"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that scrapes a service, which is asked all the while."""
    with watched_service(tmp_path_factory.mktemp("watched")) as prometheus:
        yield prometheus


def substituted(query: str, task: str = ".*") -> str:
    """As Grafana would send it; windows as short as a test."""
    values = {"task": task, "instance": ".*", "__rate_interval": "5s"}
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], query)


@needs_prometheus
@pytest.mark.slow
def test_every_query_of_the_dashboard_returns_data(prometheus):
    asked = [substituted(query, task) for _, query in queries() for task in (".*", TASKS[0])]
    assert len(asked) > 40
    assert prometheus.without_data(asked) == []


@needs_prometheus
@pytest.mark.slow
def test_every_variable_finds_the_values_to_choose_from(prometheus):
    def values(name: str) -> list[str]:
        (variable,) = (each for each in VARIABLES if each["name"] == name)
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        series = prometheus.get("query", query=f"group by ({label}) ({metric})")["result"]
        return sorted(each["metric"][label] for each in series)

    eventually(lambda: values("task") == TASKS)  # once Prometheus has scraped the service
    assert len(values("instance")) == 1


@needs_prometheus
@pytest.mark.slow
def test_every_recording_rule_returns_data_and_is_recorded(prometheus):
    recorded = [rule for rule in rules() if "record" in rule]
    assert len(recorded) > 15
    assert prometheus.without_data([rule["expr"] for rule in recorded]) == []
    assert prometheus.without_data([rule["record"] for rule in recorded]) == []


@needs_prometheus
@pytest.mark.slow
def test_every_alert_and_every_expression_of_a_runbook_is_evaluated_without_an_error(prometheus):
    for expression in [*(alert["expr"] for alert in alerts()), *runbook_expressions()]:
        prometheus.get("query", query=expression)  # raises where it is refused

    def of_rules() -> list[dict]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in of_rules()))
    assert {rule["name"] for rule in of_rules() if rule["type"] == "alerting"} == {alert["alert"] for alert in alerts()}
    assert [(rule["name"], rule["lastError"]) for rule in of_rules() if rule["health"] != "ok"] == []


@needs_prometheus
@pytest.mark.slow
def test_an_expected_alert_fires(prometheus):
    """Every eighth request fails, and there is one replica where there should be two."""

    def state(name: str) -> set[str]:
        return {alert["state"] for alert in prometheus.get("alerts")["alerts"] if alert["labels"]["alertname"] == name}

    assert wait_until(lambda: state("MoraAvailabilityFastBurn") == {"firing"})
    assert wait_until(lambda: state("MoraReplicasMissing"))
    assert state("MoraNoModel") == state("MoraLoadRefused") == state("MoraTargetDown") == set()


@needs_prometheus
@pytest.mark.slow
def test_a_query_without_data_is_found(prometheus):
    assert not prometheus.has_data("sum(rate(mora_request_total[5s]))")
    with pytest.raises(AssertionError, match="parse error"):
        prometheus.get("query", query="sum by (task (up)")
