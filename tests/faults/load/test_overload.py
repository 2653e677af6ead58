"""More requests than the encoder can answer."""

from __future__ import annotations

import json
import time
from statistics import fmean

import pytest

from benchmarks.load import OK, REFUSED, Load, closed_loop, open_loop, percentile
from tests.support.counting import counting_draft
from tests.support.faults.asking import Reply, as_json, ask, get
from tests.support.faults.planted import SLOW_SECONDS, SLOW_WORD
from tests.support.faults.probing import probed
from tests.support.sampling import each

EXPONENT = 8  # the text takes some 60 ms, about what four of its length take CLIP on one core
QUEUE, AT_ONCE = 32, 24
SLOW = {"queue_size": QUEUE, "encoder_workers": 1, "max_batch_tokens": 20, "log_level": "error"}  # four texts a run
BODY = json.dumps({"task": "fruit", "text": "a red apple"}).encode()
GOODPUT_SHARE, REFUSAL_MS, LIVEZ_MS, RECOVERY_SECONDS = 0.9, 50, 100, 2


def burst(base: str, count: int) -> list[Reply]:
    """The answers to `count` requests at the same moment."""
    return ask(base, [as_json("/classify", {"task": "fruit", "text": "a red apple"})] * count, at_once=count)


@pytest.mark.slow
def test_a_full_queue_refuses_requests_and_answers_the_rest(shelf, server):
    shelf.publish_draft(counting_draft(shelf, EXPONENT))
    running = server(shelf.store, **SLOW, timeout_ms=60_000)  # or a slow machine refuses by the deadline first

    with probed(running.port) as livez_ms:
        answers = burst(running.base, 4 * QUEUE)

    refused = [answer for answer in answers if answer.status != 200]
    assert len(answers) - len(refused) >= QUEUE
    assert refused
    assert {(answer.status, answer.json["code"]) for answer in refused} == {(503, "queue_full")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert running.metric('mora_rejected_total{reason="queue_full"}') == len(refused)
    assert livez_ms
    assert max(livez_ms) < float("inf")
    assert {answer.status for answer in burst(running.base, 4)} == {200}
    assert get(running.base, "/readyz").status == 200


def test_control_a_queue_without_a_limit_is_found(shelf, server, reliability):
    shelf.publish_draft(counting_draft(shelf, EXPONENT))
    running = server(shelf.store, **{**SLOW, "queue_size": 10_000, "timeout_ms": 600_000})

    statuses = {answer.status for answer in burst(running.base, 2 * QUEUE)}

    reliability(
        "*control*: a queue for 10,000 inputs", "found: no request is refused", str(statuses), statuses == {200}
    )


def test_control_work_on_the_event_loop_is_found(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="blocks")

    with probed(running.port) as livez_ms:
        burst(running.base, 4)

    slowest = max(livez_ms)
    goal = f"found: /livez over {LIVEZ_MS} ms"
    reliability("*control*: work on the event loop", goal, f"{slowest:.0f} ms", slowest > LIVEZ_MS)


def answered_after_a_slow_run(running, runs_before: int) -> tuple[float, int, int]:
    """The seconds of a slow run, and how many of ten requests are answered right after it: in sequence, and at once."""
    quick = as_json("/classify", {"text": "red", "timeout_ms": 2_000})
    assert {answer.status for answer in ask(running.base, [quick] * runs_before)} <= {200}
    started = time.perf_counter()
    (slow,) = ask(running.base, [as_json("/classify", {"text": SLOW_WORD, "timeout_ms": 60_000})])
    seconds = time.perf_counter() - started
    assert slow.status == 200
    in_sequence, together = ask(running.base, [quick] * 10, at_once=1), ask(running.base, [quick] * 10, at_once=10)
    return seconds, *(sum(answer.status == 200 for answer in answers) for answers in (in_sequence, together))


@pytest.mark.parametrize("runs_before", each([0, 50], tried=[50]))
@pytest.mark.slow
def test_requests_are_answered_right_after_a_slow_run(shelf, server, reliability, runs_before):
    shelf.publish("fruit")
    running = server(shelf.store, planted="stumbles", encoder_workers=1, log_level="error")

    seconds, in_sequence, together = answered_after_a_slow_run(running, runs_before)

    reliability(
        f"10 requests with 2 s, right after a run of {SLOW_SECONDS:g} s that follows {runs_before} fast ones",
        "all answered, in sequence and at once",
        f"after {seconds:.1f} s: {in_sequence} of 10 in sequence, {together} of 10 at once",
        in_sequence == together == 10,
    )


def test_control_an_estimate_that_never_falls_is_found(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="stumbles,never_forgets", encoder_workers=1, log_level="error")

    _, in_sequence, _ = answered_after_a_slow_run(running, runs_before=50)

    reliability(
        "*control*: an idle encoder that refuses by the slowest run",
        "found: refused",
        f"{in_sequence} of 10 answered",
        in_sequence < 10,
    )


def loaded(running, offered: float, seconds: float) -> tuple[Load, float, float]:
    """The load of so many requests a second, p99 of /livez in ms during it, and seconds until recovery."""
    with probed(running.port) as livez_ms:
        load = open_loop(f"{running.base}/classify", [BODY], offered, seconds)
    ended = time.perf_counter()
    while any(answer.status != 200 for answer in burst(running.base, 4)):
        assert time.perf_counter() - ended < 60
    return load, percentile(livez_ms, 0.99), time.perf_counter() - ended


def capacities(running) -> list[float]:
    """Requests answered a second in a closed loop, of some seconds in sequence."""
    return [closed_loop(f"{running.base}/classify", [BODY], AT_ONCE // 2, 2).per_second for _ in range(5)]


def test_timing_goodput_stays_at_its_peak_and_refusals_are_fast(shelf, server, reliability):
    """The capacity is measured before and after each load, because a machine's speed changes within a minute."""
    shelf.publish_draft(counting_draft(shelf, EXPONENT))
    running = server(shelf.store, **SLOW)
    capacities(running)
    before, missed = capacities(running), []

    for times in (0.7, 2.0, 3.0):
        offered = times * (min(before) if times < 1 else fmean(before))
        load, livez_ms, recovery_seconds = loaded(running, offered, seconds=30)
        after = capacities(running)
        peak = fmean([*before, *after])
        before, refused = after, load.statuses.get(REFUSED, 0)
        refusal_ms = percentile(load.refusals_ms, 0.99) if refused else 0.0
        assert load.statuses.keys() <= {OK, REFUSED}
        good = not refused if times < 1 else load.per_second >= GOODPUT_SHARE * peak and refusal_ms <= REFUSAL_MS
        good = good and livez_ms <= LIVEZ_MS and recovery_seconds <= RECOVERY_SECONDS
        goal = "0 refused" if times < 1 else f"goodput at least 90 % of it, refusals p99 at most {REFUSAL_MS} ms"
        measured = (
            f"{load.per_second:.0f}/s of {peak:.0f}/s, {refused} of {len(load.latencies_ms)} refused, "
            f"refusals p99 {refusal_ms:.0f} ms, "
            f"/livez p99 {livez_ms:.0f} ms, recovered after {1000 * recovery_seconds:.0f} ms"
        )
        try:
            reliability(
                f"{times:g} times the {'lowest ' if times < 1 else ''}capacity of the encoder",
                f"{goal}, /livez p99 at most {LIVEZ_MS} ms, recovered within {RECOVERY_SECONDS} s",
                measured,
                good,
            )
        except AssertionError as error:
            missed.append(str(error))
    assert not missed
