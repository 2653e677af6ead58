"""Measurements that print their result, and fail if a request failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.load import Load, closed_loop, open_loop


@dataclass(frozen=True)
class Meter:
    """Each method raises MeasurementError as `Load.check` does."""

    console: Console

    def closed(self, name: str, url: str, bodies: Sequence[bytes], concurrency: int, seconds: float) -> Load:
        """Closed loop."""
        return self._checked(name, closed_loop(url, bodies, concurrency, seconds))

    def open(self, name: str, url: str, bodies: Sequence[bytes], per_second: float, seconds: float) -> Load:
        """Open loop."""
        return self._checked(name, open_loop(url, bodies, per_second, seconds))

    def _checked(self, name: str, load: Load) -> Load:
        load.check(name)
        offered = f"{load.offered_per_second:.1f}/s offered, " if load.offered_per_second else ""
        latency = f"median {load.percentile(0.5):.1f} ms, p99 {load.percentile(0.99):.1f} ms"
        statuses = ", ".join(f"{count} x {status}" for status, count in load.statuses.items())
        self.console.print(f"{name}: {offered}{load.per_second:.1f}/s; {latency}; {statuses}", markup=False)
        return load
