"""What an expression of Prometheus names, and what the service has under such names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "docker/prometheus/rules").glob("*.yml"))
CASES = sorted((ROOT / "docker/prometheus/tests").glob("*.yml"))
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/mora.json").read_text())
DATASOURCE = yaml.safe_load((ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text())
_OF_PROMETHEUS = {"up", "ALERTS", "scrape_duration_seconds", "prometheus_sd_dns_lookup_failures_total"}
_WORDS = {"and", "or", "unless", "bool", "offset"}
_NOT_METRICS = [
    r'"(?:\\.|[^"\\])*"',  # strings first: they may hold anything
    r"\{[^}]*\}",
    r"\[[^]]*\]",
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
    r"\b[a-z_0-9]+(?=\s*\()",  # functions
]


def groups() -> list[dict]:
    """Every group of docker/prometheus/rules."""
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def rules() -> list[dict]:
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> list[dict]:
    return [rule for rule in rules() if "alert" in rule]


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard with its place; variables are left as they are."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']}, {target['refId']}", target["expr"]


def expressions() -> list[str]:
    """All that the rules, the dashboard's panels and its annotations ask for."""
    marks = [mark["expr"] for mark in DASHBOARD["annotations"]["list"] if "expr" in mark]
    return [*(rule["expr"] for rule in rules()), *(expr for _, expr in queries()), *marks]


def runbook_expressions() -> list[str]:
    """Those that docs/runbooks names, each on a line of its own."""
    pages = [path.read_text() for path in sorted((ROOT / "docs/runbooks").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```promql\n(.*?)```", page, re.DOTALL)]
    return [line for block in blocks for line in block.splitlines()]


def metrics_in(expression: str) -> set[str]:
    """The metrics an expression selects by name."""
    for pattern in _NOT_METRICS:
        expression = re.sub(pattern, " ", expression)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", expression)) - _WORDS


def known_metrics() -> set[str]:
    """What there is to select: the service's metrics with their suffixes, what rules record, and Prometheus' own."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    own = {f"{metric.name}{end}" for metric in Metrics().registry.collect() for end in suffixes[metric.type]}
    return own | {rule["record"] for rule in rules() if "record" in rule} | _OF_PROMETHEUS
