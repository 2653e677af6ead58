"""The queue of an encoder.

Covers service.inference.forward, service.inference.input_queue.
"""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime import RunOptions
from prometheus_client import CollectorRegistry, Counter

from model_store import openvino
from service.errors import Code, ServiceError
from service.inference.batching import Batcher
from service.inference.forward import Admission, TowerInput
from service.inference.input_queue import InputQueue, QueuedInput, choose
from service.inference.run_statistics import RunTime
from service.inference.trunk_cache import TrunkCache
from service.models.execution import Execution, Runtime
from service.models.graphs import TEXT_TRUNK, Graph


class Stub:
    """A graph that records its inputs; `compute` makes its output."""

    execution = Execution()

    def __init__(self, compute: Callable[..., np.ndarray] = lambda array, *_: array, sha256: str = "stub") -> None:
        self.sha256 = sha256
        self.tokens = None
        self.calls: list[list[np.ndarray]] = []
        self._compute = compute

    def run(self, *arrays: np.ndarray, options: object = None) -> np.ndarray:
        self.calls.append(list(arrays))
        return self._compute(*arrays)

    run_on_device = run


class Held(Stub):
    """Runs only once it is released."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.running, self.release = threading.Event(), threading.Event()

    def _wait(self, array: np.ndarray) -> np.ndarray:
        self.running.set()
        self.release.wait()
        return array


def last_of(hidden: np.ndarray, last_token: np.ndarray) -> np.ndarray:
    return hidden[np.arange(len(hidden)), last_token][:, None]


def text(trunk: Stub, tails: tuple[Stub, ...], tokens: list[int], task: str = "one", **admission: object) -> TowerInput:
    admitted = Admission(task, len(tokens), **admission)
    return TowerInput(trunk, tails, np.array([tokens]), (np.array([len(tokens) - 1]),), admitted)


def make(
    sizes: list[int],
    cache_bytes: int = 0,
    threads: int = 1,
    batches: int = 1,
    queue_size: int = 100,
    tokens: int = 64,
) -> Batcher:
    cache = TrunkCache(cache_bytes, Counter("cache", "", ["result"], registry=None))
    return Batcher("test", InputQueue(queue_size, tokens, threads, batches), cache, sizes.append)


async def occupy(batcher: Batcher, held: Held) -> asyncio.Task:
    """A request whose run occupies a thread until `held` is released."""
    request = asyncio.create_task(batcher.run(TowerInput(held, (), np.zeros((1, 1)), (), Admission("one", 1))))
    await asyncio.to_thread(held.running.wait)
    return request


async def queued(batcher: Batcher, inputs: list[TowerInput]) -> list:
    """The outcomes of inputs that arrive together while the only thread is busy."""
    held = Held()
    busy = await occupy(batcher, held)
    waiting = [asyncio.create_task(batcher.run(item)) for item in inputs]
    await asyncio.sleep(0)
    held.release.set()
    await busy
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.to_thread(batcher.close)
    return outcomes


@given(st.lists(st.integers(1, 77), min_size=1, max_size=40), st.integers(1, 300))
@settings(deadline=None)
def test_a_batch_has_the_oldest_input_within_the_limits_of_tokens_and_padding(tokens, max_tokens):
    chosen = choose(tokens, max_tokens)
    padded = max(tokens[index] for index in chosen) * len(chosen)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == 1 or padded <= max_tokens
    assert padded - sum(tokens[index] for index in chosen) <= padded / 4


def test_texts_of_similar_length_run_together_and_the_oldest_runs_first():
    assert choose([8, 70, 9, 8, 30, 7, 8], 64) == [0, 3, 6, 2, 5]
    assert choose([70, 8, 8], 64) == [0]
    assert choose([8] * 10, 32) == [0, 1, 2, 3]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=12), st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_every_text_gets_its_own_answer_in_any_batch(texts, max_tokens):
    trunk, tail, sizes = Stub(lambda ids: ids.cumsum(1)), Stub(last_of), []
    outcomes = asyncio.run(queued(make(sizes, tokens=max_tokens), [text(trunk, (tail,), tokens) for tokens in texts]))
    assert [done.result[0].tolist() for done in outcomes] == [[sum(tokens)] for tokens in texts]
    assert sum(sizes) == len(texts) + 1


def test_the_trunk_runs_once_and_each_tail_only_for_its_own_rows():
    trunk, one, two, sizes = Stub(), Stub(last_of), Stub(lambda *arrays: -last_of(*arrays)), []
    tails = [(one,), (two, one), (one,)]
    inputs = [text(trunk, tails[n], [n + 1, n + 5]) for n in range(3)]
    outcomes = asyncio.run(queued(make(sizes), inputs))
    assert [[vector.tolist() for vector in done.result] for done in outcomes] == [[[5]], [[-6], [6]], [[7]]]
    assert (sizes, len(trunk.calls), len(one.calls), len(two.calls)) == ([1, 3], 1, 1, 1)
    assert len(two.calls[0][0]) == 1


def test_an_input_that_must_run_alone_shares_no_run():
    trunk, tail, sizes = Stub(), Stub(last_of), []
    inputs = [text(trunk, (tail,), [n, n], alone=True) for n in range(4)]
    asyncio.run(queued(make(sizes), inputs))
    assert sizes == [1] * 5


def test_inputs_that_run_alone_run_in_parallel_with_each_other_and_with_one_batch():
    async def scenario() -> None:
        batcher = make([], threads=3, queue_size=0)
        batch, alone = Held(), Held()
        item = TowerInput(batch, (), np.zeros((1, 1)), (), Admission("one", 1))
        running = [asyncio.create_task(batcher.run(item))]
        await asyncio.to_thread(batch.running.wait)
        with pytest.raises(ServiceError):  # threads are idle, but not for a second batch
            await batcher.run(item)
        running += [
            asyncio.create_task(batcher.run(replace(item, trunk=alone, admission=Admission("one", 1, alone=True))))
            for _ in range(2)
        ]
        while len(alone.calls) < 2:
            await asyncio.sleep(0.001)
        assert batcher.waiting == 0
        batch.release.set()
        await running[0]
        assert len((await batcher.run(item)).result) == 0  # the thread of a batch that ended is free again
        alone.release.set()
        await asyncio.gather(*running)
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())


def test_inputs_of_different_trunks_never_share_a_batch():
    trunks, tail, sizes = [Stub(), Stub()], Stub(last_of), []
    asyncio.run(queued(make(sizes), [text(trunks[n % 2], (tail,), [n, n]) for n in range(6)]))
    assert sizes == [1, 3, 3]


def test_an_input_that_breaks_a_run_fails_alone():
    def odd(ids: np.ndarray) -> np.ndarray:
        if (ids == 13).any():
            raise RuntimeError("bad luck")
        return ids

    trunk, tail, sizes = Stub(odd), Stub(last_of), []
    inputs = [text(trunk, (tail,), [number, number]) for number in (11, 12, 13, 14, 15)]
    outcomes = asyncio.run(queued(make(sizes), inputs))
    assert isinstance(outcomes.pop(2), RuntimeError)
    assert [done.result[0].tolist() for done in outcomes] == [[11], [12], [14], [15]]


def test_an_input_without_a_waiting_request_does_not_run():
    async def scenario() -> None:
        trunk, tail, held, batcher = Stub(), Stub(last_of), Held(), make([])
        busy = await occupy(batcher, held)
        gone, stays = (asyncio.create_task(batcher.run(text(trunk, (tail,), [n]))) for n in (1, 2))
        await asyncio.sleep(0)
        assert batcher.waiting == 2
        gone.cancel()
        await asyncio.sleep(0)
        held.release.set()
        await asyncio.gather(busy, stays)
        assert [array.tolist() for array in trunk.calls[0]] == [[[2]]]
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())


def test_inputs_beyond_the_queue_are_refused_and_closing_drops_waiting_ones():
    async def scenario() -> None:
        held, batcher = Held(), make([], queue_size=1)
        item = TowerInput(held, (), np.zeros((1, 1)), (), Admission("one", 1))
        busy = asyncio.create_task(batcher.run(item))
        await asyncio.to_thread(held.running.wait)
        waiting = asyncio.create_task(batcher.run(item))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await batcher.run(item)
        assert caught.value.code is Code.QUEUE_FULL
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.release.set()
        await asyncio.gather(busy, closing)

    asyncio.run(scenario())


def test_parallel_runs_shorten_the_expected_wait():
    waits = []
    for batches in (1, 4):
        queue, trunk = InputQueue(100, 1, 4, batches), Stub()
        queue.run_times[trunk] = RunTime()
        queue.run_times[trunk].learn(1, 2.0)
        for number in range(8):
            queue.add(QueuedInput(text(trunk, (), [number])))
        waits.append(queue.seconds_ahead(Admission("one", 1)))
    assert waits[0] == pytest.approx(16, rel=0.01)
    assert waits[1] == pytest.approx(4, rel=0.01)


def test_inputs_whose_requests_are_gone_do_not_count_as_waiting():
    async def scenario() -> None:
        batcher, held = make([]), Held()
        busy = await occupy(batcher, held)
        gone = [asyncio.create_task(batcher.run(text(held, (), [number]))) for number in range(3)]
        await asyncio.sleep(0)
        assert batcher.waiting == 3
        for request in gone:
            request.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert batcher.waiting == 0
        held.release.set()
        await busy
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())


def test_a_cached_input_skips_the_trunk_and_the_least_recently_used_output_is_dropped():
    trunk, tail, sizes = Stub(lambda ids: ids * 2), Stub(last_of), []
    registry = CollectorRegistry()
    requests = Counter("requests", "", ["result"], registry=registry)
    batcher = Batcher("test", InputQueue(100, 1, 1, 1), TrunkCache(2 * 3 * 8, requests), sizes.append)  # two texts

    async def scenario() -> list:
        outcomes = []
        for number in (1, 2, 1, 3, 1, 2):  # 3 drops 2
            outcomes.append((await batcher.run(text(trunk, (tail,), [number] * 3))).result[0].tolist())
        await asyncio.to_thread(batcher.close)
        return outcomes

    assert asyncio.run(scenario()) == [[2], [4], [2], [6], [2], [4]]
    assert len(trunk.calls) == 4
    counted = {result: registry.get_sample_value("requests_total", {"result": result}) for result in ("hit", "miss")}
    assert counted == {"hit": 2, "miss": 4}


def test_cached_and_new_inputs_of_different_lengths_share_a_batch():
    trunk, tail = Stub(lambda ids: ids.cumsum(1)), Stub(last_of)
    batcher = make([], cache_bytes=10_000)

    async def scenario() -> list:
        await batcher.run(text(trunk, (tail,), [1, 2, 3]))
        return await queued(batcher, [text(trunk, (tail,), tokens) for tokens in ([1, 2, 3], [4, 4, 4, 4], [5, 6, 7])])

    outcomes = asyncio.run(scenario())
    assert [done.result[0].tolist() for done in outcomes] == [[6], [16], [18]]
    assert [arrays[0].shape for arrays in trunk.calls] == [(1, 3), (2, 4)]


def test_an_overloaded_service_answers_queue_full_and_recovers(shelf, serve, sample, occupied):
    shelf.publish("fruit")
    client = serve(shelf.store, queue_size=0, encoder_workers=1)
    with occupied(client, "text"):
        response = client.post("/classify", json={"text": "red"})

    assert (response.status_code, response.json()["code"]) == (503, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert sample(client, 'mora_rejected_total{reason="queue_full"}') == 1
    assert client.get("/readyz").status_code == 200
    assert client.post("/classify", json={"text": "red"}).status_code == 200


def test_fifty_parallel_requests_get_the_same_answers_as_one_by_one(client):
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)

    def item(number: int) -> dict:
        file = BytesIO()
        Image.fromarray(rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)).save(file, "PNG")
        image = {"image": base64.b64encode(file.getvalue()).decode()} if number % 3 != 1 else {}
        text = {"text": " ".join(rng.choice(["a", "red", "apple"], 1 + number % 8))} if number % 3 else {}
        return {"task": ("fruit", "tags")[number % 2], **image, **text}

    def ask(item: dict) -> tuple:
        answer = client.post("/classify", json=item).json()
        scores = {label["label"]: pytest.approx(label["score"], abs=1e-6) for label in answer["labels"]}
        return answer["task"], scores, answer["modalities"]

    items = [item(number) for number in range(50)]
    alone = [ask(item) for item in items]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(ask, items))
    assert together == alone


class Stoppable(Stub):
    """Runs until its options set `terminate`, like a session."""

    def __init__(self) -> None:
        super().__init__()
        self.running = threading.Event()

    def run_on_device(self, *arrays: np.ndarray, options: RunOptions) -> np.ndarray:
        self.running.set()
        while not options.terminate:
            time.sleep(0.001)
        raise RuntimeError("stopped")


def test_a_run_is_stopped_only_when_its_last_request_is_cancelled():
    async def scenario() -> None:
        batcher, held = make([]), Held()
        busy = await occupy(batcher, held)
        endless = Stoppable()
        both = [asyncio.create_task(batcher.run(text(endless, (), [1]))) for _ in range(2)]
        await asyncio.sleep(0)
        held.release.set()
        await busy
        await asyncio.to_thread(endless.running.wait)
        (run,) = batcher._queue.runs
        both[0].cancel()
        await asyncio.wait([both[0]])
        assert not run.options.terminate
        both[1].cancel()
        await asyncio.wait([both[1]])
        assert run.options.terminate
        done = await batcher.run(text(Stub(), (Stub(last_of),), [7]))
        assert done.result[0].tolist() == [7]
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())


def test_a_run_that_does_not_stop_is_replaced_by_another_thread(monkeypatch, events):
    monkeypatch.setattr("service.inference.batching._STUCK_SECONDS", 0.05)

    async def scenario() -> None:
        batcher, held = make([]), Held()
        stuck = await occupy(batcher, held)
        stuck.cancel()
        await asyncio.sleep(0.2)
        assert not batcher.is_stalled(0.1)
        done = await batcher.run(text(Stub(), (Stub(last_of),), [7]))
        assert done.result[0].tolist() == [7]
        held.release.set()
        await asyncio.to_thread(batcher.close)
        assert batcher._idle == 1

    asyncio.run(scenario())
    assert [event["event"] for event in events] == ["encoder_stuck"]


def slow_trunk(products: int, width: int = 1024) -> bytes:
    """A text trunk that multiplies each token `products` times with a matrix."""
    names = ["gathered", *(f"product_{number}" for number in range(products - 1)), "text_hidden"]
    nodes = [onnx.helper.make_node("Gather", ["table", "input_ids"], ["gathered"])]
    nodes += [onnx.helper.make_node("MatMul", [a, "matrix"], [b]) for a, b in pairwise(names)]
    weights = [
        onnx.numpy_helper.from_array(np.ones((2, width), np.float32), "table"),
        onnx.numpy_helper.from_array(np.full((width, width), 1 / width, np.float32), "matrix"),
    ]
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "length"])
    hidden = onnx.helper.make_tensor_value_info("text_hidden", onnx.TensorProto.FLOAT, ["batch", "length", width])
    graph = onnx.helper.make_graph(nodes, "main", [ids], [hidden], weights)
    opset = onnx.helper.make_opsetid("", 20)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


@pytest.mark.skipif(not openvino.is_fast(), reason="needs AMX and the extra openvino")
@pytest.mark.parametrize("deadline_seconds", [0.0, 0.05, 0.2])
def test_a_run_of_openvino_whose_deadline_passes_goes_on_in_a_slot_of_its_own(monkeypatch, deadline_seconds):
    monkeypatch.setattr("service.inference.batching._STUCK_SECONDS", 0.05)
    trunk = Graph(slow_trunk(400), "slow", TEXT_TRUNK, 1, Execution(Runtime.OPENVINO), longest=512)

    async def scenario() -> None:
        batcher = make([], tokens=512)
        slow = asyncio.create_task(batcher.run(text(trunk, (), [1] * 512)))
        while not batcher._queue.runs:
            await asyncio.sleep(0.001)
        await asyncio.sleep(deadline_seconds)
        slow.cancel()
        done = await batcher.run(text(Stub(), (Stub(last_of),), [7]))
        assert done.result[0].tolist() == [7]
        assert [run.inputs[0].input.trunk for run in batcher._queue.runs] == [trunk]  # not stopped, and in nobody's way
        await asyncio.to_thread(batcher.close)
        while batcher._queue.runs:
            await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_an_input_that_cannot_be_answered_in_time_is_refused_at_once_and_never_runs():
    """The expected duration of a run is one hour, so that the seconds of the test itself do not matter."""

    def within(hours: float) -> TowerInput:
        return text(trunk, (), [1], alone=True, deadline=time.perf_counter() + 3600 * hours)

    async def scenario() -> None:
        for graph in (trunk, held):
            batcher._queue.run_times.setdefault(graph, RunTime()).learn(1, 3600)
        busy = await occupy(batcher, held)
        with pytest.raises(ServiceError) as caught:
            await batcher.run(within(hours=1.5))
        assert caught.value.code is Code.DEADLINE_UNREACHABLE
        assert caught.value.retry_after_seconds == pytest.approx(3600, rel=0.1)
        waiting = [asyncio.create_task(batcher.run(within(hours=7.5))) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:  # one run and five inputs are ahead of it
            await batcher.run(within(hours=6.5))
        assert caught.value.code is Code.DEADLINE_UNREACHABLE
        assert caught.value.retry_after_seconds == pytest.approx(6 * 3600, rel=0.1)
        held.release.set()
        await asyncio.gather(busy, *waiting)
        assert len(trunk.calls) == 5
        await asyncio.to_thread(batcher.close)

    batcher, trunk, held = make([]), Stub(), Held()
    asyncio.run(scenario())


@pytest.mark.parametrize("limit_seconds", [2, 1, 0.5])
def test_an_idle_encoder_never_refuses_whatever_it_has_learned(limit_seconds):
    async def scenario() -> None:
        batcher._queue.run_times.setdefault(trunk, RunTime()).learn(1, 4.0)
        for _ in range(10):
            item = text(trunk, (Stub(last_of),), [7], deadline=time.perf_counter() + limit_seconds)
            assert (await batcher.run(item)).result[0].tolist() == [7]
        await asyncio.to_thread(batcher.close)

    batcher, trunk = make([]), Stub()
    asyncio.run(scenario())


def test_a_slow_backbone_does_not_make_a_fast_one_look_slow():
    def within_a_minute(trunk: Stub) -> TowerInput:
        return text(trunk, (Stub(last_of),), [7], deadline=time.perf_counter() + 60)

    async def scenario() -> None:
        batcher._queue.run_times.setdefault(slow, RunTime()).learn(1, 3600)
        batcher._queue.run_times.setdefault(held, RunTime()).learn(1, 0.001)
        busy = await occupy(batcher, held)
        waiting = asyncio.create_task(batcher.run(within_a_minute(fast)))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await batcher.run(within_a_minute(slow))
        assert caught.value.code is Code.DEADLINE_UNREACHABLE
        held.release.set()
        await busy
        assert (await waiting).result[0].tolist() == [7]
        await asyncio.to_thread(batcher.close)

    batcher, slow, fast, held = make([]), Stub(), Stub(), Held()
    asyncio.run(scenario())


def test_an_encoder_that_refuses_everything_for_a_while_says_so():
    async def scenario() -> None:
        batcher._queue.run_times.setdefault(held, RunTime()).learn(1, 3600)
        busy = await occupy(batcher, held)
        for _ in range(5):
            with pytest.raises(ServiceError):
                batcher.check(held, Admission("one", 1, deadline=time.perf_counter() + 60))
            await asyncio.sleep(0.03)
        assert batcher.refuses_everything(0.1)
        assert not batcher.refuses_everything(60)
        admitted = asyncio.create_task(batcher.run(text(Stub(), (), [1])))  # without a deadline
        await asyncio.sleep(0)
        assert not batcher.refuses_everything(0.1)
        held.release.set()
        await asyncio.gather(busy, admitted)
        await asyncio.to_thread(batcher.close)

    batcher, held = make([]), Held()
    asyncio.run(scenario())


def test_a_task_with_many_inputs_does_not_delay_a_task_with_few():
    order: list[int] = []

    def noting(ids: np.ndarray) -> np.ndarray:
        order.append(int(ids[0, 0]))
        return ids

    trunk = Stub(noting)
    greedy = [text(trunk, (), [1], "greedy", alone=True) for _ in range(30)]
    modest = [text(trunk, (), [2], "modest", alone=True) for _ in range(3)]
    asyncio.run(queued(make([]), greedy + modest))
    assert sorted(order) == [1] * 30 + [2] * 3
    assert order[:6].count(2) == 3


def test_in_a_full_queue_the_task_with_most_inputs_loses_its_newest_input():
    trunk = Stub()
    greedy = [text(trunk, (), [1], "greedy") for _ in range(4)]
    modest = [text(trunk, (), [2], "modest") for _ in range(3)]
    outcomes = asyncio.run(queued(make([], queue_size=4), greedy + modest))
    codes = [error.code if isinstance(error, ServiceError) else "answered" for error in outcomes]
    assert codes == ["answered"] * 2 + [Code.QUEUE_FULL] * 2 + ["answered"] * 2 + [Code.QUEUE_FULL]


def test_a_bug_in_the_scheduler_fails_every_waiting_request_and_its_thread_continues(monkeypatch, events):
    def broken(*_: object) -> list[int]:
        raise ZeroDivisionError

    async def scenario() -> None:
        batcher = make([])
        with monkeypatch.context() as patched:
            patched.setattr("service.inference.input_queue.choose", broken)
            with pytest.raises(ServiceError) as caught:
                await asyncio.wait_for(batcher.run(text(Stub(), (), [1])), 10)
        assert caught.value.code is Code.INTERNAL
        assert (await batcher.run(text(Stub(), (Stub(last_of),), [7]))).result[0].tolist() == [7]
        await asyncio.to_thread(batcher.close)

    asyncio.run(scenario())
    assert [event["event"] for event in events] == ["scheduler_failed"]
