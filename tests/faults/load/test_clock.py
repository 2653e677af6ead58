"""Changes of the wall clock have no effect: waits and measurements use the monotonic clock."""

from __future__ import annotations

import ast
import itertools
import json
import time
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.waiting import repeating

ROOT = Path(__file__).parents[3]
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.ctime"}
MEANT = {
    "model_store/transfer_commands.py": {"datetime.now"},  # lines of `follow` are dated
    "service/web/keys.py": {"datetime.now"},  # a key may have a last day
    "service/web/tracing.py": {"time.time_ns"},  # spans are dated
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


def test_no_module_uses_the_wall_clock():
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


def test_control_monotonic_clocks_are_allowed():
    assert wall_clock_uses("import time\ntime.monotonic()\ntime.perf_counter()\nself.time = time.sleep") == set()


def classify(base: str) -> dict:
    body = json.dumps({"task": "fruit", "text": "a red apple"}).encode()
    request = urllib.request.Request(f"{base}/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def jumping(clock: Path) -> AbstractContextManager[None]:
    """Set the clock to something else, hours or years away, every other millisecond."""
    offsets = itertools.cycle(("+1h", "-1h", "+0", "+10y"))

    def jump() -> None:
        written = clock.with_suffix(".new")
        written.write_text(next(offsets))
        written.replace(clock)  # whole: the clock is read at any time

    return repeating(jump, 0.002)


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime (Debian: libfaketime) is missing")
@pytest.mark.slow
def test_a_jumping_wall_clock_refuses_no_request_and_changes_no_duration(
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
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # a cure for older C libraries, with which waits on this one spin
    }.items():
        monkeypatch.setenv(name, value)
    running = server(shelf.store)
    monkeypatch.undo()
    requests = counts(100, 5000)

    with jumping(clock):
        totals = [classify(running.base)["latency_ms"]["total"] for _ in range(requests)]
        shelf.publish("fruit", seed=2)
        deadline = time.monotonic() + 30
        while classify(running.base)["version"] == 1:
            assert time.monotonic() < deadline, "the store is no longer followed"

    years = {event["timestamp"][:4] for event in running.events if event["event"] == "request"}
    assert len(years) > 1, "the clock did not jump"
    what = f"{requests} requests while the clock jumps by 1 h to 10 y every 2 ms"
    goal = "none refused, no duration depends on the wall clock"
    reliability(
        what, goal, f"0 refused, {min(totals):.1f} to {max(totals):.1f} ms", 0 < min(totals) <= max(totals) < 6e4
    )
