"""Hours of mixed load: mostly good requests, some bad ones, reloads, and standstills of the process."""

from __future__ import annotations

import json
import signal
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np
import pytest

from benchmarks.load import closed_loop, open_loop
from model_store import Store, activate
from tests.support.faults.asking import get, golden
from tests.support.faults.open_files import many_files
from tests.support.faults.slope import theil_sen
from tests.support.tiny import encode_png

LOAD_SHARE = 0.7
MOST_MIB_AN_HOUR = 1.0
STALLS = 3
_PICTURE = b64encode(encode_png(np.zeros((16, 16, 3), np.uint8))).decode()
_GOOD = [
    {"text": "a red apple"},
    {"image": _PICTURE},
    {"image": _PICTURE, "text": "green"},
    {"text": "of a picture", "top_k": 1},
]
_BAD = [(b'{"text": ', "400"), (b'{"image": "?"}', "422"), (b'{"task": "nothing", "text": "a"}', "404")]
BODIES = [(json.dumps(item).encode(), "200") for item in islice(cycle(_GOOD), 17)] + _BAD  # 15 % are bad


@dataclass
class Soaked:
    """Figures of a period of load."""

    statuses: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # when memory was looked at
    mib: list[float] = field(default_factory=list)
    reloads: int = 0
    stalls: int = 0

    @property
    def mib_an_hour(self) -> float:
        """Slope of memory over the last five sixths: the first is for warming up."""
        start = len(self.mib) // 6
        return 3600 * theil_sen(self.seconds[start:], self.mib[start:])


def soak(
    running, store: Store, per_second: float, seconds: float, piece_seconds: float, stall_seconds: float = 0
) -> Soaked:
    """Open loop in pieces; between any two of them another version goes live.

    Args:
        stall_seconds: so long the process stands still in the middle of each of STALLS pieces. Before the load, it
            stands still for twice as long: memory for as many connections as there may be is not given back.
    """
    if stall_seconds:
        with standstill(running, 0, 2 * stall_seconds):
            open_loop(f"{running.base}/classify", [body for body, _ in BODIES], per_second, 2 * stall_seconds, 0)
    soaked, started = Soaked(), time.monotonic()
    # a slow machine has fewer pieces, and yet its standstills
    while (passed := time.monotonic() - started) < seconds or (stall_seconds and soaked.stalls < STALLS):
        activate(store, "fruit", 1 + soaked.reloads % 2)
        soaked.reloads += 1
        stalls = stall_seconds and passed > seconds * (soaked.stalls + 0.5) / STALLS
        soaked.stalls += bool(stalls)
        with standstill(running, piece_seconds / 2, stall_seconds) if stalls else nullcontext():
            load = open_loop(
                f"{running.base}/classify", [body for body, _ in BODIES], per_second, piece_seconds, soaked.reloads
            )
        soaked.statuses.update(load.statuses)
        soaked.expected.update(status for _, status in islice(cycle(BODIES), len(load.latencies_ms)))
        soaked.seconds.append(time.monotonic() - started)
        soaked.mib.append(running.resident_bytes / 2**20)
    return soaked


@contextmanager
def standstill(running, after_seconds: float, seconds: float) -> Iterator[None]:
    """The process is stopped (SIGSTOP) in the block for some seconds."""

    def stop() -> None:
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        running.process.send_signal(signal.SIGCONT)

    timer = threading.Timer(after_seconds, stop)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.slow
def test_hours_of_mixed_load_leak_no_memory(request, shelf, server, counts, reliability):
    for seed in (1, 2):
        shelf.publish("fruit", seed)
    running = server(shelf.store, log_level="error")
    is_full = request.config.getoption("--full-faults")
    per_second = 100.0
    if is_full:
        good = [body for body, status in BODIES if status == "200"]
        per_second = LOAD_SHARE * closed_loop(f"{running.base}/classify", good, 8, 10).per_second

    with many_files(20_000):  # for the connections that wait during a standstill
        soaked = soak(running, shelf.store, per_second, counts(6, 3600), counts(1, 10), counts(0.5, 7))

    assert get(running.base, "/readyz").status == 200
    activate(shelf.store, "fruit", 1)
    assert golden(running.base)["status"] == 200
    what = (
        f"{soaked.seconds[-1] / 3600:.2f} h at {per_second:.0f} requests/s, 15 % of them bad, {soaked.reloads} reloads"
        f", {soaked.stalls} standstills of {counts(0.5, 7):g} s"
    )
    wrong, total = soaked.statuses - soaked.expected, sum(soaked.expected.values())
    refused = wrong.pop("503", 0)  # where the machine itself stands still for longer than the queue holds
    measured = f"{sum(wrong.values()):,} of {total:,} lost or wrong {dict(wrong) or ''}, {refused:,} refused"
    goal = "0 lost or wrong, at most 1 % refused"
    try:
        reliability(
            f"{what}: answers", goal, measured, not wrong and refused <= total / 100 and soaked.stalls == STALLS
        )
    finally:  # an hour is worth both rows
        if is_full:
            slope, every = soaked.mib_an_hour, len(soaked.mib) // 30
            print("memory, in MiB:", *(round(mib, 1) for mib in soaked.mib[::every]))
            goal = f"memory grows at most {MOST_MIB_AN_HOUR:g} MiB/h after warm-up"
            reliability(what, goal, f"{slope:+.2f} MiB/h", slope <= MOST_MIB_AN_HOUR)


def test_control_a_leak_is_found_by_the_slope(shelf, server, reliability):
    for seed in (1, 2):
        shelf.publish("fruit", seed)
    running = server(shelf.store, planted="leaks", log_level="error")

    soaked = soak(running, shelf.store, per_second=100, seconds=3, piece_seconds=0.3)

    reliability(
        "*control*: 256 KiB of every request are never freed",
        f"found: more than {MOST_MIB_AN_HOUR:g} MiB/h",
        f"{soaked.mib_an_hour:.0f} MiB/h",
        soaked.mib_an_hour > 1000,
    )


def test_the_slope_ignores_outliers():
    times = list(range(60))
    noise = np.random.default_rng(0).normal(size=60)
    assert theil_sen(times, [3 + 2 * t for t in times]) == pytest.approx(2)
    assert theil_sen(times, [3 + 2 * t + (1000 if t % 5 == 0 else 0) for t in times]) == pytest.approx(2, abs=0.3)
    assert abs(theil_sen(times, [100 + n for n in noise])) < 0.05
