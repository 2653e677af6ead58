"""Bodies in flight stay within their budget, and each of them gets on. A real server is in tests/faults/load."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from service.errors import Code, ServiceError
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord
from service.web.body_budget import SMALL_BYTES, BodyBudget
from service.web.small_reads import READ_BYTES

LARGEST = 20 * READ_BYTES
BUDGET = 3 * LARGEST
SILENCE = object()  # the client sends nothing more
GONE = {"type": "http.disconnect"}
PART = b"a" * READ_BYTES


@dataclass
class Service:
    """An application that reads each body to its end and answers when it is told to, behind a budget."""

    total_bytes: int = BUDGET
    wait_seconds: float = 30.0
    metrics: Metrics = field(default_factory=Metrics)
    complete: list[str] = field(default_factory=list)  # the bodies that have been read, in this order
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    peak: float = 0.0

    def __post_init__(self) -> None:
        held = self.metrics.inflight_body_bytes
        self.app = BodyBudget(self._answer, self.total_bytes, LARGEST, self.wait_seconds, held)

    @property
    def held(self) -> float:
        return self.metrics.registry.get_sample_value("mora_inflight_body_bytes")

    async def _answer(self, scope, receive, send) -> None:
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            self.peak = max(self.peak, self.held)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
        self.complete.append(scope["path"])
        await self.may_answer.wait()

    def post(self, name: str, parts: list, announced: int | None = None) -> asyncio.Task:
        """Send a body in parts; without `announced`, in chunks."""
        headers = [] if announced is None else [(b"content-length", b"%d" % announced)]
        scope = {"type": "http", "path": name, "headers": headers, "state": {"record": RequestRecord()}}
        left = [*parts] or [b""]

        async def receive() -> dict:
            await asyncio.sleep(0)
            part = left.pop(0)
            if part is SILENCE:
                await asyncio.Event().wait()
            return part if part is GONE else {"type": "http.request", "body": part, "more_body": bool(left)}

        return asyncio.create_task(self.app(scope, receive, None))


async def settle() -> None:
    for _ in range(2_000):
        await asyncio.sleep(0)


async def fill(service: Service) -> list[asyncio.Task]:
    """Requests whose bodies use up the budget and are not answered yet."""
    tasks = []
    for number in range(3):
        tasks.append(service.post(f"full {number}", [PART] * 20, LARGEST))
        await settle()
    return tasks


@pytest.mark.parametrize("announced", [LARGEST, None])
def test_large_bodies_wait_for_memory_and_small_ones_do_not(announced):
    async def scenario() -> None:
        service = Service()
        tasks = await fill(service)
        tasks.append(service.post("large", [PART] * 20, announced))
        await settle()
        tasks.append(service.post("small", [b"a" * SMALL_BYTES], SMALL_BYTES))
        tasks.append(service.post("small chunks", [b"a" * (SMALL_BYTES // 4)] * 4))
        await settle()

        assert service.complete == ["full 0", "full 1", "full 2", "small", "small chunks"]
        assert service.held <= BUDGET + 4 * SMALL_BYTES
        service.may_answer.set()
        await asyncio.gather(*tasks)
        assert service.complete[-1] == "large"
        assert service.held == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("sent", [0, 1, 100, READ_BYTES])
@pytest.mark.slow
def test_bodies_that_are_announced_and_not_sent_reserve_nothing(sent):
    async def scenario() -> None:
        service = Service(total_bytes=1_000 * 2 * READ_BYTES + 2 * LARGEST)
        parts = [b"a" * sent, SILENCE] if sent else [SILENCE]
        silent = [service.post("silent", parts, LARGEST) for _ in range(1_000)]
        await settle()
        large = service.post("large", [PART] * 20, LARGEST)
        service.may_answer.set()
        await asyncio.wait_for(large, 5)

        assert service.complete == ["large"]
        assert service.held == 1_000 * sent
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        assert service.held == 0

    asyncio.run(scenario())


@settings(deadline=None, max_examples=40)
@given(
    bodies=st.lists(st.tuples(st.integers(0, 20), st.integers(1, READ_BYTES), st.booleans()), min_size=1, max_size=60),
    total_bytes=st.sampled_from([1, LARGEST, LARGEST + READ_BYTES, BUDGET]),
)
def test_bodies_that_arrive_together_are_all_read_within_the_budget(bodies, total_bytes):
    async def scenario() -> None:
        service = Service(total_bytes)
        service.may_answer.set()
        tasks = [
            service.post("any", [b"a" * size] * parts, size * parts if is_announced else None)
            for parts, size, is_announced in bodies
        ]
        await asyncio.wait_for(asyncio.gather(*tasks), 30)

        assert len(service.complete) == len(bodies)
        assert service.peak <= max(total_bytes, LARGEST) + len(bodies) * (SMALL_BYTES + READ_BYTES)
        assert service.held == 0

    asyncio.run(scenario())


def test_half_read_bodies_do_not_wait_for_each_other():
    """40 bodies at once, of which parts use up the budget. One after another is read to its end and answered."""

    async def scenario() -> None:
        service = Service()
        service.may_answer.set()
        await asyncio.wait_for(asyncio.gather(*[service.post("half", [PART] * 20) for _ in range(40)]), 30)

        assert len(service.complete) == 40
        assert service.peak <= BUDGET + 40 * (SMALL_BYTES + READ_BYTES)

    asyncio.run(scenario())


@pytest.mark.parametrize("parts", [3, 10, 20])
def test_free_memory_goes_to_the_request_that_arrived_first(parts):
    async def scenario() -> None:
        service = Service(total_bytes=LARGEST)
        service.may_answer.set()
        tasks = [service.post(f"{number}", [PART] * parts, parts * READ_BYTES) for number in range(10)]
        await asyncio.wait_for(asyncio.gather(*tasks), 30)

        assert service.complete == [f"{number}" for number in range(10)]

    asyncio.run(scenario())


@pytest.mark.parametrize("parts_before", [0, 1, 5])
def test_a_request_that_waits_for_too_long_is_refused(parts_before):
    async def scenario() -> None:
        service = Service(wait_seconds=0.2)
        late = [] if not parts_before else [service.post("late", [*[PART] * parts_before, SILENCE, PART])]
        await settle()
        tasks = await fill(service)
        refused = service.post("refused", [PART] * 20, LARGEST)
        with pytest.raises(ServiceError) as caught:
            await refused
        assert caught.value.code is Code.QUEUE_FULL
        assert caught.value.retry_after_seconds >= 1
        for task in [*late, *tasks]:
            task.cancel()
        await asyncio.gather(*late, *tasks, return_exceptions=True)
        assert service.held == 0
        service.may_answer.set()
        await asyncio.wait_for(service.post("next", [PART] * 20, LARGEST), 5)

    asyncio.run(scenario())


@pytest.mark.parametrize("is_waiting", [True, False])
@pytest.mark.parametrize("parts", [0, 1, 15])
def test_the_memory_of_a_client_that_leaves_is_free_again(parts, is_waiting):
    """Also where it leaves as the one that may read to the end, and while it waits."""

    async def scenario() -> None:
        service = Service(total_bytes=LARGEST if is_waiting else BUDGET)
        leaving = [service.post("leaving", [PART] * parts + [GONE], LARGEST) for _ in range(5)]
        results = await asyncio.wait_for(asyncio.gather(*leaving, return_exceptions=True), 10)

        assert [type(result) for result in results] == [ClientDisconnect] * 5
        assert service.held == 0
        service.may_answer.set()
        await asyncio.wait_for(service.post("next", [PART] * 20, LARGEST), 5)

    asyncio.run(scenario())


def test_what_is_no_request_passes():
    async def scenario() -> None:
        seen = []

        async def app(scope, receive, send) -> None:
            seen.append(scope["type"])

        await BodyBudget(app, 1, 1, 1.0, Metrics().inflight_body_bytes)({"type": "lifespan"}, None, None)
        assert seen == ["lifespan"]

    asyncio.run(scenario())
