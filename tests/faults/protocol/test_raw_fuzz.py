"""Malformed requests by the million."""

from __future__ import annotations

import pytest

from tests.support.faults.asking import get, golden
from tests.support.faults.malformed import Reading, badly_framed, well_framed
from tests.support.faults.mutation import dice
from tests.support.faults.raw_fuzz import FOUND, fuzz

MOST_GROWTH_BYTES = 32 * 2**20


@pytest.mark.slow
def test_malformed_requests_do_no_harm(shelf, server, counts, reliability):
    shelf.publish("fruit")
    shelf.publish("tags")
    running = server(shelf.store, log_level="error")
    before = golden(running.base)
    fuzz(running.port, seed=1, requests=counts(500, 20_000), hang_seconds=10)
    warm_bytes = running.resident_bytes

    outcome = fuzz(running.port, seed=2, requests=counts(2_000, 1_000_000), hang_seconds=counts(10, 1))

    assert outcome.problems == []
    assert running.process.poll() is None
    assert get(running.base, "/livez").status == 200
    assert golden(running.base) == before
    assert {200, 400, 404, 405, 415, 422} <= outcome.statuses.keys()
    grown = running.resident_bytes - warm_bytes
    reliability(
        "malformed requests on raw sockets: damaged JSON, forms, batches, paths, headers and framing",
        "0 crashes, 0 answers of 5xx, 0 hangs over 1 s, resident memory at most +32 MiB, golden answer as before",
        f"{outcome}; {grown / 2**20:+.1f} MiB",
        grown <= MOST_GROWTH_BYTES,
    )


def test_control_the_fuzzer_finds_planted_faults(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="raises,stalls,leaks", log_level="error")
    warm_bytes = running.resident_bytes

    outcomes = [fuzz(running.port, seed, requests=4_000, hang_seconds=0.5) for seed in (3, 4)]

    problems = [problem for outcome in outcomes for problem in outcome.problems]
    kept = [(FOUND / problem.rsplit("/", 1)[1]).read_bytes() for problem in problems]
    found = {
        "exception": any("answered [500" in problem for problem in problems),
        "hang": any("no answer" in problem for problem in problems),
        "leak": running.resident_bytes - warm_bytes > MOST_GROWTH_BYTES,
    }
    assert all(kept)
    reliability(
        "*control*: an exception, a hang and a leak in the service", "all found", str(found), all(found.values())
    )


def test_the_same_seed_makes_the_same_bytes():
    drawn = [[make(dice(seed)) for make in (well_framed, badly_framed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_number_of_answers_that_a_client_can_expect():
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [Reading(data).answers for data in (whole, whole * 2, whole[:-1], whole + whole[:9], b"nonsense")] == [
        1,
        2,
        0,
        1,
        1,
    ]
