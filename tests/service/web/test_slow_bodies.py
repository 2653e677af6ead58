"""Time limits of bodies. Slow clients of a real server are in tests/faults/protocol/test_slow_clients.py."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Code, ServiceError
from service.telemetry.metrics import Metrics
from service.web.slow_bodies import SlowBodies


def read(pauses: list[float], idle_seconds: float, total_seconds: float) -> tuple[int, Metrics]:
    """The number of messages of a body that are read, and the metrics; the disconnect follows the body."""
    metrics, received = Metrics(), []

    async def reading(scope, receive, send) -> None:
        while not received or received[-1]["type"] != "http.disconnect":
            received.append(await receive())

    async def receive() -> dict:
        if len(received) == len(pauses):
            await asyncio.sleep(0.3)  # longer than any limit: the client waits for its answer
            return {"type": "http.disconnect"}
        await asyncio.sleep(pauses[len(received)])
        return {"type": "http.request", "body": b"a", "more_body": len(received) + 1 < len(pauses)}

    app = SlowBodies(reading, idle_seconds, total_seconds, metrics)
    asyncio.run(app({"type": "http"}, receive, None))
    return len(received), metrics


def test_only_the_body_has_a_limit():
    assert read([0, 0], 0.2, 0.2)[0] == 3


@pytest.mark.parametrize(
    ("pauses", "idle_seconds", "total_seconds"), [([0, 30], 0.05, 60), ([0.06] * 100, 30, 0.2), ([30], 0.05, 60)]
)
def test_a_pause_and_the_whole_body_have_limits(pauses, idle_seconds, total_seconds):
    with pytest.raises(ServiceError) as caught:
        read(pauses, idle_seconds, total_seconds)
    assert caught.value.code is Code.SLOW_CLIENT
