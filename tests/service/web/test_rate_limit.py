"""The token bucket, with a clock that the test sets."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from service.web.rate_limit import RateLimit


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
