"""The token bucket, with a clock that the test sets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ServiceError
from service.web.monitoring_paths import MONITORING_PATHS
from service.web.rate_limit import RateLimit
from tests.support.problem_code import code_of


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


RATES = st.floats(0.01, 1000)
BURSTS = st.integers(1, 50)
PAUSES = st.lists(st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1000)), min_size=1, max_size=200)


@settings(deadline=None)
@given(rate=RATES, burst=BURSTS, pauses=PAUSES)
def test_the_requests_of_a_period_are_at_most_the_burst_and_the_rate(rate, burst, pauses):
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    let_through = []
    for pause in pauses:
        clock.now += pause
        if not limit.take("shop"):
            let_through.append(clock.now)
    for first, start in enumerate(let_through):
        for last in range(first, len(let_through)):
            assert last - first + 1 <= burst + (let_through[last] - start) * rate + 2e-3


@settings(deadline=None)
@given(rate=RATES, burst=BURSTS, pauses=PAUSES)
def test_a_client_is_accepted_only_after_the_announced_wait(rate, burst, pauses):
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    for pause in pauses:
        clock.now += pause
        seconds = limit.take("shop")
        if seconds:
            announced = clock.now + math.ceil(seconds)
            if seconds * rate > 0.1:
                clock.now += seconds * 0.9
                assert limit.take("shop") > 0
            clock.now = announced
            assert limit.take("shop") == 0


@settings(deadline=None)
@given(rate=RATES, burst=BURSTS, count=st.integers(1, 200))
def test_a_client_that_keeps_to_the_rate_is_never_refused(rate, burst, count):
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    for _ in range(count):
        assert limit.take("shop") == 0
        clock.now += 1 / rate


@settings(deadline=None)
@given(burst=BURSTS)
def test_the_limits_of_two_clients_are_independent(burst):
    limit = RateLimit(1.0, burst, Clock())
    while not limit.take("shop"):
        pass
    assert [limit.take("blog") for _ in range(burst)] == [0.0] * burst
    assert limit.take("blog") > 0


def test_a_request_that_is_refused_takes_no_token():
    clock = Clock()
    limit = RateLimit(1.0, 1, clock)
    assert limit.take("shop") == 0
    for _ in range(10):
        assert limit.take("shop") == 1.0
    clock.now += 1.0
    assert limit.take("shop") == 0


@settings(deadline=None)
@given(rate=RATES, burst=BURSTS, pauses=PAUSES, cells=st.integers(1, 200))
def test_the_cells_of_a_period_are_at_most_the_burst_the_rate_and_one_batch(rate, burst, pauses, cells):
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    started, answered = clock.now, 0
    for pause in pauses:
        clock.now += pause
        if not limit.take("shop", cells):
            answered += cells
    assert answered <= max(burst, cells) + (clock.now - started) * rate + 2e-3 * len(pauses)


@settings(deadline=None)
@given(rate=RATES, burst=BURSTS, batches=st.lists(st.integers(1, 200), min_size=1, max_size=50))
def test_a_batch_of_any_size_is_accepted_after_the_announced_wait(rate, burst, batches):
    clock = Clock()
    limit = RateLimit(rate, burst, clock)
    for cells in batches:
        seconds = limit.take("shop", 1)  # at its arrival
        clock.now += math.ceil(seconds)
        assert seconds == 0 or limit.take("shop", 1) == 0
        if seconds := limit.take("shop", cells, paid=1):
            clock.now += math.ceil(seconds)
            assert limit.take("shop", 1) == 0
            assert limit.take("shop", cells, paid=1) == 0


@pytest.mark.parametrize(("left", "cells"), [(1, 5), (4, 5), (4, 200)])
def test_a_refused_batch_gives_its_token_back(left, cells):
    limit = RateLimit(1.0, 5, Clock())
    limit.take("shop", 5 - left)
    for _ in range(10):
        limit.charge("shop")
        with pytest.raises(ServiceError, match="less often"):
            limit.charge("shop", cells, paid=1)
    assert [limit.take("shop") == 0 for _ in range(left + 1)] == [True] * left + [False]


BATCHES = {
    "inputs": ("/classify/batch", {"tasks": ["fruit"], "inputs": [{"text": "red"}] * 4}),
    "inputs times tasks": ("/classify/batch", {"tasks": ["fruit", "tags"], "inputs": [{"text": "red"}] * 2}),
    "inputs of which some fail": ("/classify/batch", {"tasks": ["fruit", "no"], "inputs": [{"text": "red"}, {}]}),
    "inputs to moderate": ("/v1/moderations", {"model": "fruit", "input": ["red"] * 4}),
    "inputs to encode": ("/v1/embeddings", {"model": "tags", "input": ["red"] * 4}),
    "tensors": (
        "/v2/models/fruit/infer",
        {"inputs": [{"name": "text", "shape": [4], "datatype": "BYTES", "data": ["red"] * 4}]},
    ),
}


@pytest.fixture
def both_tasks(shelf):
    shelf.publish("fruit")
    shelf.publish("tags")
    return shelf.store


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_takes_a_token_for_each_cell(both_tasks, serve, name):
    path, body = BATCHES[name]
    client = serve(both_tasks, rate_limit=0.01, rate_burst=10)

    assert [client.post(path, json=body).status_code for _ in range(4)] == [200, 200, 429, 429]
    refused = client.post(path, json=body)

    assert (code_of(refused.json()), refused.headers["Retry-After"]) == (
        "rate_limited",
        "200",
    )  # 2 of 4 tokens are left
    assert [client.get("/tasks").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_larger_than_the_burst_needs_a_full_bucket_and_owes_the_rest(both_tasks, serve, name):
    path, body = BATCHES[name]
    client = serve(both_tasks, rate_limit=0.01, rate_burst=3)

    assert [client.post(path, json=body).status_code for _ in range(2)] == [200, 429]
    assert client.get("/tasks").headers["Retry-After"] == "200"  # from -1 to 1


def test_exactly_the_monitoring_paths_are_exempt(both_tasks, serve):
    client = serve(both_tasks, rate_limit=0.01, rate_burst=1)
    assert client.get("/tasks").status_code == 200
    others = [
        "/",
        "/playground/page.js",
        "/tasks",
        "/docs",
        "/openapi.json",
        "/v2",
        "/v2/health",
        "/livez/",
        "/nowhere",
    ]

    assert {path for path in [*others, *MONITORING_PATHS] if client.get(path).status_code != 429} == MONITORING_PATHS
    assert client.post("/livez").status_code == 405
