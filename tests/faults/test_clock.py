"""A clock that is set moves nothing: what is waited for and measured goes by the monotonic clock."""

from __future__ import annotations

import ast
import json
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.ctime"}
MEANT = {
    "service/tracing.py": {"time.time_ns"},  # spans are dated
}
LIBRARIES = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]


def wall_clock_uses(source: str) -> set[str]:
    """Which wall clocks a module names, as `module.name`; also under another name."""
    found, renamed = set(), {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            renamed |= {name.asname or name.name: name.name for name in node.names}
            found |= {f"{node.module}.{name.name}" for name in node.names} & WALL
        if isinstance(node, ast.Import):
            renamed |= {name.asname or name.name: name.name for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            last = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            found |= {f"{renamed.get(last, last)}.{node.attr}"} & WALL
    return found


def test_nothing_waits_for_or_measures_by_the_wall_clock():
    uses = {
        str(path.relative_to(ROOT)): found
        for package in ("service", "model_store")
        for path in (ROOT / package).rglob("*.py")
        if (found := wall_clock_uses(path.read_text(encoding="utf-8")))
    }
    assert uses == MEANT


@pytest.mark.parametrize(
    "source",
    [
        "import time\ndeadline = time.time() + 1",
        "import time as clock\nclock.time_ns()",
        "from time import time\ntime()",
        "from datetime import datetime as d, UTC\nd.now(UTC)",
        "import datetime\ndatetime.datetime.utcnow()",
    ],
)
def test_control_a_wall_clock_is_found_under_any_name(source):
    assert wall_clock_uses(source)


def test_control_monotonic_clocks_are_not_mistaken():
    assert wall_clock_uses("import time\ntime.monotonic()\ntime.perf_counter()\nself.time = time.sleep") == set()


def classify(base: str) -> dict:
    body = json.dumps({"task": "fruit", "text": "a red apple"}).encode()
    request = urllib.request.Request(f"{base}/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime (Debian: libfaketime) is missing")
def test_a_clock_that_jumps_by_hours_loses_and_refuses_nothing(
    shelf, server, tmp_path, monkeypatch, counts, reliability
):
    shelf.publish("fruit")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    for name, value in {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    running = server(shelf.store)
    monkeypatch.undo()
    jumps, longest = counts(6, 200), 0.0

    for jump in range(jumps):
        clock.write_text(("+1h", "-1h", "+0", "+10y")[jump % 4])
        answer = classify(running.base)
        longest = max(longest, answer["latency_ms"]["total"])
    shelf.publish("fruit", seed=2)  # still followed
    for _ in range(3000):
        if classify(running.base)["version"] == 2:
            break
    else:
        raise AssertionError("the new version was not picked up")

    years = {event["timestamp"][:4] for event in running.events if event["event"] == "request"}
    assert len(years) > 1, "the clock did not jump"
    calm = longest < 60_000
    reliability(f"{jumps} clock jumps of 1 h to 10 y", "0 lost, no time by the wall", f"longest {longest:.0f} ms", calm)
