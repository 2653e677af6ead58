"""The cases of docker/prometheus/tests under the labels that targets get in compose, in Kubernetes and on Ray."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from tests.support.promql import ROOT

KUBERNETES = ROOT / "docker/kubernetes"
_REPLICA = re.compile(r'job="mora",instance="(\w+)"')  # in a case
_SERVICE = re.compile(r'job="mora"')


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def schemes() -> dict[str, dict[str, str]]:
    """The labels of a replica's target beside `instance`, by deployment, as the shipped configurations make them."""
    pods = {"namespace": "mora", "pod": "mora-serve-{instance}", "container": "mora-serve"}
    operator = {**pods, "job": "mora-serve-metrics", "service": "mora-serve-metrics", "endpoint": "metrics"}
    (monitor,) = yaml.safe_load_all((KUBERNETES / "monitoring.yaml").read_text())
    (endpoint,) = monitor["spec"]["endpoints"]
    relabelled = {rule["targetLabel"]: rule["replacement"] for rule in endpoint["relabelings"]}
    return {
        "compose": {"job": _job("prometheus.yml")},
        "kubernetes": {**operator, **relabelled},
        "kubernetes by annotations": {**pods, "job": "kubernetes-pods"},
        "ray": {"job": _job("ray.yml"), "node": "node-{instance}"},
    }


def _job(name: str) -> str:
    config = yaml.safe_load((ROOT / "docker/prometheus" / name).read_text())
    return next(job["job_name"] for job in config["scrape_configs"] if job["job_name"] != "prometheus")


def write_case(path: Path, scheme: dict[str, str], folder: Path, rules: str | None = None) -> Path:
    """A copy of a file of cases, in which the replicas of the job `mora` have the labels of a scheme.

    Args:
        rules: the files of rules, by default those of docker/prometheus.
    """
    service = {name: scheme[name] for name in ("namespace", "job") if name in scheme}
    case = yaml.safe_load(path.read_text())
    case["rule_files"] = [rules or str(ROOT / "docker/prometheus/rules/*.yml")]
    for test in case["tests"]:
        for series in test["input_series"]:
            series["series"] = _relabelled(series["series"], scheme, service)
        for sample in (sample for query in test.get("promql_expr_test", []) for sample in query["exp_samples"]):
            sample["labels"] = _relabelled(sample["labels"], scheme, service)
        for alert in (alert for check in test.get("alert_rule_test", []) for alert in check["exp_alerts"]):
            labels = alert["exp_labels"]
            if labels.get("job") == "mora":
                pod = (
                    {"pod": scheme["pod"].format(**labels)} if {"pod"} <= scheme.keys() and "instance" in labels else {}
                )
                alert["exp_labels"] = {**labels, **service, **pod}
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(case))
    return copy


def _relabelled(series: str, scheme: dict[str, str], service: dict[str, str]) -> str:
    def target(found: re.Match[str]) -> str:
        return _written(
            {name: value.format(instance=found[1]) for name, value in scheme.items()} | {"instance": found[1]}
        )

    series, number = _REPLICA.subn(target, series)
    return series if number else _SERVICE.sub(_written(service), series)


def _written(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
