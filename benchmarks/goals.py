"""The goals of the service: ratios of figures from one run on one machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]
PRECISIONS = ("fp32", "bf16", "int8")
MANY_TASKS = "8"


@dataclass(frozen=True)
class Goal:
    """A figure with its target. The figure is None if it was not measured."""

    name: str
    target: float
    figure: float | None
    at_least: bool = True
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the figure was measured and meets the target."""
        if self.figure is None:
            return False
        return self.figure >= self.target if self.at_least else self.figure <= self.target

    @property
    def verdict(self) -> str:
        """`yes`, or the relative distance from the target."""
        if self.figure is None:
            return "not measured"
        if self.reached:
            return "yes"
        if math.isinf(self.figure):
            return "no, requests were refused"
        distance = abs(self.figure / self.target - 1)
        return f"no, {100 * distance:.0f} % {'short' if self.at_least else 'over'}"

    @property
    def limit(self) -> str:
        """The target in words."""
        return f"{'≥' if self.at_least else '≤'} {self.target:g}{self.unit}"


def goals(figures: Figures) -> list[Goal]:
    """Every goal, in the order of the table."""
    amx = bool(figures.get("has_amx"))  # goals differ with the processor's instructions
    litserve, torch = capacity(figures, "litserve"), capacity(figures, "torch")
    rivals = [rate for rate in (litserve, torch, capacity(figures, "authors")) if rate is not None]
    found = [
        Goal(
            "text-only item (12 tokens), latency: authors' way / ours fp32",
            15,
            _ratio(text_ms(figures, "authors"), text_ms(figures, "ours", "fp32")),
        ),
        Goal(
            "mixed load, throughput: ours fp32 / LitServe fp32",
            1.8,
            _ratio(capacity(figures, "ours", "fp32"), litserve),
        ),
        Goal(
            "mixed load, throughput: ours int8 / LitServe fp32", 4, _ratio(capacity(figures, "ours", "int8"), litserve)
        ),
    ]
    if amx:
        ours = capacity(figures, "ours", "bf16")
        found.append(Goal("mixed load, throughput: ours bf16 / PyTorch bf16 behind LitServe", 1.6, _ratio(ours, torch)))
    best = _ratio(capacity(figures, "ours", "auto"), max(rivals, default=None))
    found.append(Goal("mixed load, throughput: ours by measurement / the best rival", 2.2 if amx else 3.5, best))
    image = _ratio(at(figures, "ours", "auto", "image", "p50_ms"), at(figures, "limit", "fp32", "image_ms"))
    name = "one image, one at a time: ours by measurement / bare ONNX Runtime fp32"
    found.append(Goal(name, 0.25 if amx else 0.55, image, False))
    for precision in PRECISIONS:
        bare = at(figures, "limit", precision, "with_preparation_per_second")
        name = f"mixed load, throughput: ours {precision} / bare runtime {precision}, decoding included"
        found.append(Goal(name, 0.92, _ratio(capacity(figures, "ours", precision), bare)))
    most = 1.5 if amx else 2
    for precision in PRECISIONS:
        ours, bare = text_ms(figures, "ours", precision), at(figures, "limit", precision, "text_ms")
        extra = None if ours is None or bare is None else ours - bare
        found.append(Goal(f"text-only, one at a time: ours {precision} minus bare runtime", most, extra, False, " ms"))
    tasks = [at(figures, "tasks", count, "p50_ms") for count in (MANY_TASKS, "1")]
    found.append(Goal("8 tasks on one image: time over 1 task", 1.8, _ratio(*tasks), False))
    memory = [at(figures, "resident_bytes", count) for count in (MANY_TASKS, "1")]
    found.append(Goal("memory, 8 tasks over 1 (fp32, resident)", 1.5, _ratio(*memory), False))
    memory = [at(figures, "ours", precision, "resident_bytes") for precision in ("bf16", "fp32")]
    found.append(Goal("memory, OpenVINO bf16 over ONNX Runtime fp32 (resident)", 1.15, _ratio(*memory), False))
    decoding, most = at(figures, "limit", "fp32", "decode_cpu_ms"), 4 if amx else 5
    found.append(Goal("processor time of a picture of 640 x 480: decode to pixel_values", most, decoding, False, " ms"))
    for precision in PRECISIONS:
        change = at(figures, "ours", precision, "largest_change_beside_others")
        found.append(Goal(f"largest change of a score beside other items, {precision}", 1e-3, change, False))
    for state, most in (("warm", 1.5), ("cold", 4)):
        start = at(figures, "start_seconds", state)
        found.append(Goal(f"start to ready, shipped tasks, file of times {state}", most, start, False, " s"))
    for precision in PRECISIONS:
        for pattern in ("text", "image"):
            load = at(figures, "ours", precision, "single", pattern)
            name = f"p99 over p50 at 70 % of capacity, open loop, {pattern}-only, {precision}"
            found.append(Goal(name, 3, _tail(load), False))
    return found


def capacity(figures: Figures, *system: str) -> float | None:
    """The highest rate of a system in closed loop, in items of the mix a second."""
    measured = at(figures, *system, "mixed") or {}
    return max((load["per_second"] for load in measured.values()), default=None)


def text_ms(figures: Figures, *system: str) -> float | None:
    """Median latency of the text, one request at a time."""
    return at(figures, *system, "text", "p50_ms")  # type: ignore[no-any-return]


def at(figures: Any, *path: str) -> Any:  # noqa: ANN401
    """The value at a path of nested figures, or None if a part of the path is missing."""
    for name in path:
        if not isinstance(figures, Mapping) or name not in figures:
            return None
        figures = figures[name]
    return figures


def _tail(load: Figures | None) -> float | None:
    """p99 over p50; infinite if so many requests were refused that p99 is a refusal."""
    if load is None:
        return None
    return math.inf if load["p99_ms"] is None else _ratio(load["p99_ms"], load["p50_ms"])


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
