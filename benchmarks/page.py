"""The results page: first the goals, then the measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.goals import Figures, Goal, at, capacity, goals
from benchmarks.plots import latency_plot, tasks_plot, throughput_plot

_FINDINGS = "findings.md"  # in the folder of results, written by hand: why some goals are not reached
_MIB = 2**20


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write serving.json, serving.md and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = results["figures"]
    findings = (folder / _FINDINGS).read_text(encoding="utf-8") if (folder / _FINDINGS).exists() else ""
    rows = [goal_row(goal) for goal in goals(figures)]
    (folder / "serving.json").write_text(json.dumps({**results, "goals": rows}, indent=1) + "\n", encoding="utf-8")
    (folder / "serving.md").write_text("\n".join(lines(results, findings)) + "\n", encoding="utf-8")
    for name, plot in (("throughput", throughput_plot), ("latency", latency_plot), ("tasks", tasks_plot)):
        (folder / f"serving_{name}.svg").write_text(plot(figures), encoding="utf-8")


def goal_row(goal: Goal) -> dict[str, object]:
    """A goal as JSON."""
    figure = None if goal.figure is None or math.isinf(goal.figure) else round(goal.figure, 3)
    return {"name": goal.name, "goal": goal.limit, "figure": figure, "verdict": goal.verdict}


def lines(results: Mapping[str, Any], findings: str = "") -> Iterator[str]:
    """The lines of serving.md."""
    figures = results["figures"]
    yield "# Serving speed compared with other servers"
    yield f"\n{results['backbone']}, the same for every server. [README](../../README.md) describes the measurements."
    yield f"\n- machine: {results['machine']}, {results['rivals']}"
    instructions = "with AMX" if figures.get("has_amx") else "without AMX"
    yield f"- the processor is one {instructions}; some goals differ with it"
    if not results["gpu"]:
        yield "- there was no GPU: everything below ran on the processor, and fp16 was not measured"
    yield f"- command: `{results['command']}`, {results['started']}, {results['minutes']:.0f} minutes"
    yield f"- load average before the start: {results['load_before']:.1f} (0: an idle machine)"
    if results["quick"]:
        yield "- a smoke run with small towers: **these figures say nothing about speed**"
    for failure in results["failures"]:
        yield f"- **failed:** {failure.splitlines()[0]}"
    yield "\n## Goals\n\n| figure | goal | measured | reached |\n|---|---|---|---|"
    for goal in goals(figures):
        measured = "" if goal.figure is None else f"{goal.figure:.3g}{goal.unit}"
        yield f"| {goal.name} | {goal.limit} | {measured} | {goal.verdict} |"
    if findings:
        yield f"\n{findings.strip()}"
    yield "\n## Every server\n"
    yield "Mixed load in closed loop. Latencies are in milliseconds, median / p99.\n"
    yield "| server | one text | mixed, 1 at once | mixed, 16 at once | items/s, 1 at once | items/s, 16 at once |"
    yield "|---|---|---|---|---|---|"
    yield from (server_row(name, found) for name, found in servers(figures).items())
    yield "\n![Throughput](serving_throughput.svg)\n\n![Latency against offered load](serving_latency.svg)"
    yield from _limits(figures)
    yield from _tasks(figures)
    yield from _profiles(figures)


def servers(figures: Figures) -> dict[str, Figures]:
    """The figures of every measured server, by its displayed name."""
    rivals = {
        "PyTorch + FastAPI (authors' way)": figures.get("authors"),
        "LitServe, ONNX Runtime fp32": figures.get("litserve"),
        "LitServe, PyTorch bf16": figures.get("torch"),
    }
    mine = {f"ours {precision}": found for precision, found in figures.get("ours", {}).items()}
    return {name: found for name, found in (rivals | mine).items() if found}


def server_row(name: str, found: Figures) -> str:
    """One server's line of the table."""
    loads = [found["text"], found["mixed"]["1"], found["mixed"]["16"]]
    latencies = [f"{_number(load['p50_ms'])} / {_number(load['p99_ms'])}" for load in loads]
    rates = [_number(found["mixed"][concurrency]["per_second"]) for concurrency in ("1", "16")]
    return f"| {' | '.join([name, *latencies, *rates])} |"


def _limits(figures: Figures) -> Iterator[str]:
    yield "\n## The limit: the bare runtime\n"
    yield "| precision | items/s, prepared inputs | items/s, with preparation | one text, ms | set-ups, items/s |"
    yield "|---|---|---|---|---|"
    for precision, found in figures.get("limit", {}).items():
        ours = capacity(figures, "ours", precision)
        rates = [found["per_second"], found["with_preparation_per_second"]]
        shares = [f"{rate:.1f}" + (f" (ours: {100 * ours / rate:.0f} %)" if ours else "") for rate in rates]
        tried = ", ".join(f"{name}: {setup['per_second']:.1f}" for name, setup in found["setups"].items())
        yield f"| {precision} | {' | '.join(shares)} | {_number(found['text_ms'])} | {tried} |"
    for system in ("litserve", "torch"):
        if setups := at(figures, system, "setups"):
            tried = "; ".join(f"{name}: {rate}/s" for name, rate in setups.items())
            yield f"\nOf these set-ups the best was measured further: {tried}."


def _tasks(figures: Figures) -> Iterator[str]:
    tasks, resident = figures.get("tasks", {}), figures.get("resident_bytes", {})
    if not tasks:
        return
    yield "\n## Many tasks on one image\n\n| tasks | median ms | p99 ms |\n|---|---|---|"
    yield from (f"| {count} | {_number(load['p50_ms'])} | {_number(load['p99_ms'])} |" for count, load in tasks.items())
    sizes = " and ".join(f"{size / _MIB:.0f} MiB with {count}" for count, size in resident.items())
    yield f"\nResident memory: {sizes} tasks loaded. ![Cost against number of tasks](serving_tasks.svg)"


def _profiles(figures: Figures) -> Iterator[str]:
    profiles = {precision: found["profile"] for precision, found in figures.get("ours", {}).items()}
    names = list(dict.fromkeys(name for profile in profiles.values() for name in profile))
    if not names:
        return
    yield "\n## Time of each stage in our service\n"
    yield "Mixed load, 16 at once: mean milliseconds of each stage that ran, and mean items in a run of an encoder.\n"
    yield f"| server | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    for precision, profile in profiles.items():
        yield f"| ours {precision} | {' | '.join(_number(profile.get(name)) for name in names)} |"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
