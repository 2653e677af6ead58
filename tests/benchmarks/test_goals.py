"""Goals are computed from figures, and a missing figure is never taken for a reached goal."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.goals import Goal, goals
from benchmarks.page import lines, write_results
from benchmarks.stages import read
from service.telemetry.metrics import Metrics


def load(per_second: float, p50: float, p99: float | None = None, offered: float | None = None) -> dict[str, Any]:
    tail = {"p90_ms": p50, "p99_ms": p99 or 2 * p50}
    return {"offered_per_second": offered, "per_second": per_second, "p50_ms": p50, **tail, "statuses": {"200": 9}}


def system(per_second: float, text_ms: float) -> dict[str, Any]:
    mixed = {"1": load(per_second / 2, 100), "16": load(per_second, 300)}
    return {"text": load(10, text_ms), "mixed": mixed, "sweep": [load(3, 150, offered=3), load(7, 250, offered=7)]}


def figures() -> dict[str, Any]:
    single = {"text": load(50, 10, 25), "image": load(5, 100, 400)}
    bare = {"per_second": 10.0, "with_preparation_per_second": 9.6, "text_ms": 6.5, "decode_cpu_ms": 4.5}
    memory = {"resident_bytes": 600, "largest_change_beside_others": 2e-6}
    return {
        "authors": system(3, 150),
        "litserve": {**system(4, 60), "setups": {"litserve, 1 worker": 4.0}},
        "ours": {
            "fp32": {**system(9.5, 8), "single": single, "profile": {"decode_ms": 5.0, "image_batch": 2.5}, **memory}
        },
        "limit": {"fp32": {**bare, "setups": {"1 x 2 threads": bare}}},
        "tasks": {"1": load(5, 200), "8": load(3, 300)},
        "resident_bytes": {"1": 600, "8": 1200},
        "start_seconds": {"warm": 1.0, "cold": 5.0},
    }


def results(measured: dict[str, Any]) -> dict[str, Any]:
    about = {
        "machine": "2 cores",
        "gpu": False,
        "rivals": "litserve 1",
        "backbone": "CLIP",
        "command": "python",
        "started": "now",
    }
    run = {"minutes": 3.0, "load_before": 0.1, "quick": False, "failures": ["many tasks: 404\nlog"]}
    return {**about, **run, "figures": measured}


def test_goals_differ_with_the_instructions_of_the_processor() -> None:
    measured = figures()
    measured["torch"] = {**system(5, 50), "setups": {"1 worker": 5.0}}
    measured["ours"] |= {
        "bf16": {**system(20, 5), "profile": {}, "resident_bytes": 660},
        "auto": {**system(21, 5), "profile": {}, "image": load(30, 33)},
    }
    measured["limit"]["fp32"]["image_ms"] = 110.0
    names = {
        True: ("mixed load, throughput: ours by measurement / the best rival", "≥ 2.2", 21 / 5),
        False: ("mixed load, throughput: ours by measurement / the best rival", "≥ 3.5", 21 / 5),
    }
    for has_amx, expected in names.items():
        found = [(goal.name, goal.limit, goal.figure) for goal in goals({**measured, "has_amx": has_amx})]
        assert expected in found
        bf16 = ("mixed load, throughput: ours bf16 / PyTorch bf16 behind LitServe", "≥ 1.6", 20 / 5)
        assert (bf16 in found) == has_amx
        image = "one image, one at a time: ours by measurement / bare ONNX Runtime fp32"
        assert (image, "≤ 0.25" if has_amx else "≤ 0.55", 33 / 110) in found
        assert ("memory, OpenVINO bf16 over ONNX Runtime fp32 (resident)", "≤ 1.15", 1.1) in found
    page = "\n".join(lines(results({**measured, "has_amx": True})))
    assert "the processor is one with AMX" in page
    assert "| LitServe, PyTorch bf16 |" in page


def test_every_ratio_is_that_of_its_name() -> None:
    found = {goal.name: (goal.figure, goal.reached) for goal in goals(figures()) if goal.figure is not None}

    assert found == {
        "text-only item (12 tokens), latency: authors' way / ours fp32": (150 / 8, True),
        "mixed load, throughput: ours fp32 / LitServe fp32": (9.5 / 4, True),
        "mixed load, throughput: ours fp32 / bare runtime fp32, decoding included": (9.5 / 9.6, True),
        "text-only, one at a time: ours fp32 minus bare runtime": (1.5, True),
        "8 tasks on one image: time over 1 task": (1.5, True),
        "memory, 8 tasks over 1 (fp32, resident)": (2.0, False),
        "processor time of a picture of 640 x 480: decode to pixel_values": (4.5, True),
        "largest change of a score beside other items, fp32": (2e-6, True),
        "start to ready, shipped tasks, file of times warm": (1.0, True),
        "start to ready, shipped tasks, file of times cold": (5.0, False),
        "p99 over p50 at 70 % of capacity, open loop, text-only, fp32": (2.5, True),
        "p99 over p50 at 70 % of capacity, open loop, image-only, fp32": (4.0, False),
    }


def test_without_int8_its_goals_are_not_measured() -> None:
    verdicts = {goal.verdict for goal in goals(figures()) if "int8" in goal.name}

    assert verdicts == {"not measured"}


def test_without_any_figure_no_goal_is_reached() -> None:
    assert [goal for goal in goals({}) if goal.reached] == []


def test_refused_requests_in_the_tail_miss_the_goal() -> None:
    measured = figures()
    measured["ours"]["fp32"]["single"]["text"]["p99_ms"] = None

    (goal,) = [goal for goal in goals(measured) if goal.figure == math.inf]

    assert goal.verdict == "no, requests were refused"


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal("", 4, 4.0), "yes"),
        (Goal("", 4, 3.0), "no, 25 % short"),
        (Goal("", 2, 2.0, at_least=False), "yes"),
        (Goal("", 2, 3.0, at_least=False), "no, 50 % over"),
        (Goal("", 2, None), "not measured"),
    ],
)
def test_a_verdict_says_by_how_much(goal: Goal, verdict: str) -> None:
    assert goal.verdict == verdict


def test_the_page_shows_goals_servers_limit_and_failures() -> None:
    page = "\n".join(lines(results(figures())))

    assert "| mixed load, throughput: ours fp32 / LitServe fp32 | ≥ 1.8 | 2.38 | yes |" in page
    assert "| LitServe, ONNX Runtime fp32 | 60.0 / 120.0 | 100.0 / 200.0 | 300.0 / 600.0 | 2.00 | 4.00 |" in page
    assert "| fp32 | 10.0 (ours: 95 %) | 9.6 (ours: 99 %) | 6.50 | 1 x 2 threads: 10.0 |" in page
    assert "- **failed:** many tasks: 404\n" in page


@pytest.mark.parametrize("measured", [figures(), {}], ids=["everything", "nothing"])
def test_results_are_written_for_any_set_of_measurements(measured: dict[str, Any], tmp_path: Path) -> None:
    write_results(tmp_path, results(measured))

    written = json.loads((tmp_path / "serving.json").read_text())
    assert len(written["goals"]) == len(goals(measured))
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (tmp_path / "serving.md").read_text())
    assert {path.name for path in tmp_path.glob("*.svg")} >= set(shown) != set()
    for path in tmp_path.glob("*.svg"):
        assert ET.fromstring(path.read_text()).tag.endswith("svg")  # noqa: S314


def test_the_profile_reads_what_the_service_renders() -> None:
    metrics = Metrics()
    metrics.stage_duration.labels("decode").observe(0.25)
    metrics.stage_duration.labels("decode").observe(0.5)
    metrics.batch_size.labels("image").observe(3)

    found = read(metrics.render().decode())

    assert found["mora_stage_duration_seconds", "decode"] == (0.75, 2)
    assert found["mora_batch_size", "image"] == (3, 1)
