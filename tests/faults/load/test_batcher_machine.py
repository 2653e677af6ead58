"""An encoder's queue compared with a model: each request ends once, with its own answer; the queue keeps its limit."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import service.inference.batching
from service.errors import Code, ServiceError
from service.inference.batching import Batcher
from tests.support.faults.encoder_stub import Gate, Tail, Trunk, answer_to, expected, item_of, make_batcher
from tests.support.faults.machines import run_machine

QUEUE, BATCH, HANG_SECONDS = 4, 3, 20.0


class BatcherMachine(RuleBasedStateMachine):
    """Requests by number, of which negative ones are poison."""

    made = staticmethod(make_batcher)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.gate, self.tail = Gate(), Tail()
        self.trunk = Trunk(self.gate)
        self.batcher: Batcher = self.made(QUEUE, BATCH)
        self.numbers = iter(range(1, 10**6))
        self.under_way: dict[int, asyncio.Task[float]] = {}
        self.given_up: set[int] = set()  # they may keep their place until a thread looks at the queue again
        self.is_closed = False

    def teardown(self) -> None:
        try:
            if not self.is_closed:
                self.closes()
        finally:
            left = [*self.under_way.values(), *asyncio.all_tasks(self.loop)]  # where an assertion failed
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(left) if left else asyncio.sleep(0))
            for task in left:
                task.cancelled() or task.exception()  # looked at, which ends its complaint
            self.loop.close()

    @precondition(lambda self: not self.is_closed)
    @rule(count=st.integers(1, 4), is_poison=st.sampled_from([False, False, True]))
    def asks(self, count: int, is_poison: bool) -> None:
        for _ in range(count):
            number = next(self.numbers) * (-1 if is_poison else 1)
            waiting, places_taken = self.waiting(), self.waiting() + len(self.given_up - self.gate.seen)
            task = self.loop.create_task(answer_to(self.batcher, item_of(number, self.trunk, self.tail)))
            self.settle(task)
            if task.done() and not task.cancelled() and isinstance(task.exception(), ServiceError):
                assert task.exception().code is Code.QUEUE_FULL
                assert places_taken >= QUEUE, f"refused while {places_taken} waited"
            else:
                assert waiting < QUEUE, f"taken while {waiting} waited"
                self.under_way[number] = task

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.under_way)))
        task = self.under_way.pop(number)
        task.cancel()
        self.given_up.add(number)
        self.settle()
        assert task.done()

    @precondition(lambda self: self.gate.inside is not None)
    @rule()
    def lets_one_run_end(self) -> None:
        self.gate.let_through()
        self.settle()

    @precondition(lambda self: not self.is_closed)
    @rule()
    def closes(self) -> None:
        """Running requests are answered, queued ones are dropped, and none hangs."""
        self.is_closed = True
        self.gate.open()
        self.loop.run_until_complete(asyncio.to_thread(self.batcher.close))
        if tasks := [*self.under_way.values()]:
            _, forgotten = self.loop.run_until_complete(asyncio.wait(tasks, timeout=HANG_SECONDS))
            for task in forgotten:
                task.cancel()
            assert not forgotten, "a request was forgotten"
        self.check_answers()

    @precondition(lambda self: self.is_closed)
    @rule()
    def is_over(self) -> None:
        assert not self.under_way

    @invariant()
    def no_more_wait_than_may(self) -> None:
        assert self.waiting() <= QUEUE

    def check_answers(self) -> None:
        for number in [number for number, task in self.under_way.items() if task.done()]:
            task = self.under_way.pop(number)
            if task.cancelled():
                assert self.is_closed
            elif number < 0:
                assert str(task.exception()) == "poison"
            else:
                assert task.result() == expected(number), f"{number} was given {task.result()}"

    def waiting(self) -> int:
        """Requests that no run has taken yet."""
        return len(self.under_way.keys() - self.gate.seen)

    def settle(self, *asking: asyncio.Task[float]) -> None:
        """Until the thread waits at the gate or has nothing left to do."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            self.loop.run_until_complete(asyncio.sleep(0.0005))
            self.check_answers()
            if self.gate.inside is not None:
                return
            if all(task.done() for task in (*self.under_way.values(), *asking)):
                self.given_up.clear()
                return
            assert time.monotonic() < deadline, "a request was forgotten"


def test_every_request_to_a_queue_ends_once_with_its_own_answer(counts, reliability):
    examples = counts(25, 1_000)
    run_machine(BatcherMachine, examples)
    reliability(
        "encoder's queue: ask, give up, poison, probe, close in any order",
        "every request ends once with its own answer; the queue keeps its limit",
        f"so in {examples} runs",
    )


class Swaps(Batcher):
    """Gives the answers of a batch to neighbours."""


class TakesTooMany(Batcher):
    """Has room for one more than it should."""

    @classmethod
    def made(cls, queue_size: int, most: int) -> Batcher:
        return make_batcher(queue_size + 1, most)


class Forgets(Batcher):
    """Takes some requests and never answers."""

    async def run(self, item, *arguments: object, **options: object):
        if item.trunk_input[0, 0] % 5 == 4:
            await asyncio.get_running_loop().create_future()
        return await super().run(item, *arguments, **options)


@pytest.mark.parametrize("faulty", [Swaps, TakesTooMany, Forgets])
def test_control_a_faulty_queue_differs_from_its_model(faulty, monkeypatch, reliability):
    forward = service.inference.batching.forward

    def swapping(*arguments: object, **options: object) -> list:
        found = forward(*arguments, **options)
        return found[1:] + found[:1]

    def made(queue_size: int, most: int) -> Batcher:
        batcher = getattr(faulty, "made", make_batcher)(queue_size, most)
        batcher.__class__ = faulty
        return batcher

    if faulty is Swaps:
        monkeypatch.setattr("service.inference.batching.forward", swapping)
    monkeypatch.setitem(globals(), "HANG_SECONDS", 0.3)
    monkeypatch.setattr(BatcherMachine, "made", staticmethod(made))
    found = "not found"
    try:
        run_machine(BatcherMachine, 200, [Phase.generate])
    except Exception as error:
        found = str(error).splitlines()[0]
    what = faulty.__doc__[0].lower() + faulty.__doc__[1:-1]
    reliability(f"*control*: a queue that {what}", "found", found, found != "not found")
