"""The tables of docs/ (reference, errors, observability, scaling) say what the code has; the README is short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from service.errors import Code
from service.settings import RaySettings, Settings
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
OBSERVABILITY = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def first_cells(title: str) -> list[str]:
    """What stands in backticks in the first column of the table under a heading."""
    section = REFERENCE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def test_every_setting_is_listed_with_its_default() -> None:
    assert first_cells("Settings") == [f"MORA_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        if not field.default_factory and field.default is not None and name != "store":
            assert f"| `MORA_{name.upper()}` | `{field.default}` |" in REFERENCE, name


def test_every_setting_and_metric_is_described_as_in_the_code() -> None:
    meanings = [str(field.description) for field in Settings.model_fields.values()]
    meanings += [value._documentation for value in vars(Metrics()).values() if hasattr(value, "_labelnames")]
    rows = re.findall(r"^\| `[^`]+` \|.* \| ?(.+) \|$|^\| `[^`]+` \| (.+) \|$", REFERENCE, flags=re.MULTILINE)
    described = {first or second for first, second in rows}

    assert [meaning for meaning in meanings if meaning not in described] == []


def test_every_setting_of_ray_is_listed_with_its_default() -> None:
    rows = re.findall(r"^\| `MORA_(\w+)` \| `([^`]+)` \| (.+) \|$", SCALING, flags=re.MULTILINE)
    own = {name: field for name, field in RaySettings.model_fields.items() if name not in Settings.model_fields}

    assert rows == [(name.upper(), str(field.default), field.description) for name, field in own.items()]


def test_every_metric_is_listed_with_its_labels() -> None:
    metrics = Metrics()
    labels = {value._name: value._labelnames for value in vars(metrics).values() if hasattr(value, "_labelnames")}
    found = []
    for metric in metrics.registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        named = ",".join(labels.get(metric.name, ()))
        found.append(f"{name}{{{named}}}" if named else name)
    found = [name for name in found if name.startswith("mora_")]

    assert sorted(first_cells("Metrics")) == sorted(found)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_code_of_a_problem_is_listed_with_its_status_and_title() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| [^|]+ \| [^|]+ \|$", ERRORS, flags=re.MULTILINE)

    assert rows == [(code, str(code.status), code.problem_title) for code in Code]


def test_every_event_of_the_log_is_listed() -> None:
    calls = [
        node
        for path in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log.")
    ]
    logged = {ast.literal_eval(call.args[0]) for call in calls}
    section = OBSERVABILITY.split("## Events of the log\n")[1]

    assert sorted(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE)) == sorted(logged)
