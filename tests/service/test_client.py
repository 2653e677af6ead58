"""The client: its answers, its retries and the secrecy of the key.

Covers model_store.service_connection.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest

from model_store import service_connection
from service.api.requests import Input
from service.client import Client, ClientError, NoAnswerError, ProblemError, RetryBudget
from tests.support.closed_service import CANARY
from tests.support.faulty_service import ANSWER, OK, RESET, STALLS, TRUNCATED, Reply, faulty_service, problem
from tests.support.tiny import ITEMS, label_sets
from tests.support.waiting import eventually


@pytest.fixture
def client(real):
    with Client(real.url, CANARY) as client:
        yield client


@pytest.fixture
def planted(monkeypatch):
    """`planted(reply, ...)`: a service that sends these replies in turn, and the last one again and again."""
    slept = []
    monkeypatch.setattr(service_connection, "sleep", slept.append)
    with ExitStack() as stack:

        def plant(*replies: Reply):
            left = list(replies)
            running = stack.enter_context(faulty_service(lambda: left.pop(0) if len(left) > 1 else left[0]))
            running.slept = slept
            return running

        yield plant


@pytest.fixture
def asking():
    """`asking(running, ...)`: a client of a planted service."""
    with ExitStack() as stack:
        yield lambda running, *arguments, **options: stack.enter_context(Client(running.base, *arguments, **options))


@pytest.mark.parametrize(("has_image", "has_text"), [(True, True), (True, False), (False, True)])
def test_the_client_gets_the_scores_of_the_model(client, oracle, pixels, picture, has_image, has_text):
    text = "a red apple" if has_text else None

    answer = client.classify(picture if has_image else None, text, task="fruit", top_k=2, version=1, timeout_ms=9_000)

    scores = oracle("fruit").scores(pixels if has_image else None, text)
    assert {label.label: label.score for label in answer.labels} == pytest.approx(
        dict(sorted(scores.items(), key=lambda item: -item[1])[:2]), abs=1e-5
    )
    assert (answer.modalities.image, answer.modalities.text) == tuple(
        "used" if is_present else "absent" for is_present in (has_image, has_text)
    )


def test_a_batch_has_a_cell_for_each_input_and_task(client, picture):
    inputs = [Input(image=picture), Input(text="a red apple"), Input(image=b"no picture")]

    answer = client.classify_batch(inputs, ["fruit", "tags"], top_k=1)

    assert [[getattr(cell, "code", None) for cell in row] for row in answer.results] == [
        [None, None],
        [None, None],
        ["image_format", "image_format"],
    ]
    assert answer.results[1][0].labels == client.classify(text="a red apple", task="fruit", top_k=1).labels


@pytest.fixture
def client_of_sets(with_sets):
    with Client(with_sets.url, CANARY) as client:
        yield client


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
@pytest.mark.slow
def test_an_answer_to_a_coverage_has_the_set_of_the_model(client_of_sets, oracle, pixels, picture, pattern, coverage):
    text = None if pattern == "image" else "a red apple"
    image = None if pattern == "text" else picture

    answer = client_of_sets.classify(image, text, task="fruit", coverage=coverage)
    batch = client_of_sets.classify_batch([Input(image=image, text=text)], ["fruit"], coverage=coverage)

    scores = oracle("fruit").scores(None if image is None else pixels, text)
    members = label_sets().members(np.array([*scores.values()]), pattern, coverage, single=True)
    expected = {label for label, is_in in zip(scores, members, strict=True) if is_in}
    assert set(answer.label_set.labels) == expected
    assert (answer.label_set.coverage, answer.label_set.review) == (coverage, len(expected) != 1)
    assert batch.results[0][0].label_set == answer.label_set
    assert client_of_sets.classify(image, text, task="fruit").label_set is None


@pytest.mark.parametrize(("task", "coverage"), [("older", 0.5), ("tags", 0.81), ("fruit", 0.995)])
def test_an_unsupported_coverage_is_a_problem_and_of_a_batch_a_cell(client_of_sets, task, coverage):
    with pytest.raises(ProblemError) as caught:
        client_of_sets.classify(text="red", task=task, coverage=coverage)
    batch = client_of_sets.classify_batch([Input(text="red")], [task, "fruit"], coverage=min(coverage, 0.99))

    assert (caught.value.status, caught.value.code) == (422, "coverage_unsupported")
    supported = [getattr(cell, "code", None) is None for cell in batch.results[0]]
    assert supported == [task == "fruit", True]


@pytest.mark.parametrize("coverage", [0, 0.3, 1, 7])
def test_an_impossible_coverage_is_sent_and_refused(client_of_sets, coverage):
    for call in (
        lambda: client_of_sets.classify(text="red", task="fruit", coverage=coverage),
        lambda: client_of_sets.classify_batch([Input(text="red")], ["fruit"], coverage=coverage),
    ):
        with pytest.raises(ProblemError, match=r"422 bad_value: coverage: must be"):
            call()


NO_LABELS = json.dumps({**ANSWER, "labels": []}).encode()
BATCH = Reply(content=json.dumps({"results": [], "latency_ms": ANSWER["latency_ms"], "request_id": "a1"}).encode())


@pytest.mark.parametrize(
    ("options", "newer"),
    [({}, {}), ({"coverage": None, "explain": False}, {}), ({"coverage": 0.9}, {"coverage": 0.9})],
)
def test_a_field_that_is_not_set_is_not_sent_to_an_older_service(planted, asking, options, newer):
    running = planted(OK, BATCH)

    asking(running).classify(text="red", **options)
    asking(running).classify_batch(
        [Input(text="red")], ["fruit"], **{name: value for name, value in options.items() if name == "coverage"}
    )

    for attempt in running.attempts:
        body = json.loads(attempt.body)
        assert {name: body[name] for name in ("coverage", "explain") if name in body} == newer


def test_tasks_are_listed_and_described(client):
    assert [summary.task for summary in client.tasks().tasks] == ["fruit", "tags"]
    detail = client.task("fruit")
    assert (detail.version, detail.refused) == (1, None)


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (lambda client: client.task("none"), 404, "unknown_task"),
        (lambda client: client.classify(task="fruit"), 422, "missing_input"),
        (lambda client: client.classify(text="\ud800", task="fruit"), 422, "bad_text"),
        (lambda client: client.classify(b"\xff", task="fruit"), 415, "image_format"),
    ],
)
def test_a_problem_is_raised_with_the_request_id_of_the_log(client, real, call, status, code):
    with pytest.raises(ProblemError) as caught:
        call(client)

    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.detail in str(caught.value)
    eventually(lambda: caught.value.request_id in real.log.read_text())


def test_the_key_is_in_no_log_error_or_repr(client, real, planted, asking, caplog):
    caplog.set_level(logging.DEBUG)
    shown = [repr(client), str(client.tasks())]
    calls = [lambda: Client(real.url, CANARY[:-1]).tasks(), lambda: asking(planted(RESET), CANARY, attempts=1).tasks()]
    calls += [lambda: asking(planted(Reply(200, b"<html>")), CANARY).tasks()]
    calls += [lambda key=key: Client(real.url, key) for key in (CANARY + "\n", CANARY + " x", CANARY + "\u2026", "")]
    calls += [lambda: Client(f"http://shop:{CANARY}@127.0.0.1")]
    for call in calls:
        with pytest.raises((ClientError, ValueError)) as caught:
            call()
        shown += [repr(caught.value), *traceback.format_exception(caught.value)]

    assert caplog.records  # urllib3's
    everything = "\n".join([*shown, caplog.text, real.log.read_text()])
    assert CANARY[:-1] not in everything
    assert "unauthorized" in everything


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://[", "http://host?a", "file:///x"]
)
def test_an_invalid_address_is_refused(url):
    with pytest.raises(ValueError, match="url is the address"):
        Client(url)


@pytest.mark.parametrize("options", [{"attempts": 0}, {"timeout_seconds": 0}])
def test_a_timeout_of_0_and_0_attempts_are_refused(options):
    with pytest.raises(ValueError, match="attempts at least 1"):
        Client("http://127.0.0.1", **options)


@pytest.mark.parametrize(
    "fault",
    [
        RESET,
        TRUNCATED,
        *(problem(503, code) for code in ("queue_full", "deadline_unreachable", "draining", "no_model")),
        problem(429, "rate_limited"),
        Reply(502, b"<html>"),
        Reply(503, b""),
        Reply(504, b"[]"),
    ],
)
def test_a_temporary_failure_is_retried_with_the_whole_body(planted, asking, picture, fault):
    running = planted(fault, fault, OK)

    assert asking(running, CANARY).classify(picture, "a red apple").labels[0].label == "apple"

    assert len(running.attempts) == 3
    first, *others = running.attempts
    assert json.loads(first.body)["image"] == base64.b64encode(picture).decode()
    assert {other.body for other in others} == {first.body}
    assert {attempt.headers["Authorization"] for attempt in running.attempts} == {f"Bearer {CANARY}"}
    assert 0 <= running.slept[0] <= 0.2
    assert 0 <= running.slept[1] <= 0.4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_json"),
        (401, "unauthorized"),
        (404, "unknown_task"),
        (408, "slow_client"),
        (413, "body_too_large"),
        (422, "missing_input"),
        (500, "internal"),
        (503, "version_refused"),
        (504, "deadline"),
    ],
)
def test_a_lasting_failure_is_not_retried(planted, asking, status, code):
    running = planted(problem(status, code, Retry_After="1"), OK)

    with pytest.raises(ProblemError) as caught:
        asking(running).classify(text="a red apple")

    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "a2")
    assert len(running.attempts) == 1


def test_a_redirect_is_not_followed_with_the_key(planted, asking):
    elsewhere = planted(OK)
    running = planted(Reply(307, b"", {"Location": elsewhere.base}))

    with pytest.raises(ProblemError, match=r"307 .*not the service"):
        asking(running, CANARY).classify(text="a red apple")

    assert (len(running.attempts), elsewhere.attempts) == (1, [])


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"task": "fruit"}', NO_LABELS, b"[" * 200_000])
def test_an_answer_of_another_server_is_an_error(planted, asking, content):
    running = planted(Reply(200, content), OK)

    with pytest.raises(NoAnswerError, match="not as a mora-serve"):
        asking(running).classify(text="a red apple")

    assert len(running.attempts) == 1


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"code": ' * 200_000, b" " * 2**20, b"\xff"])
def test_an_error_that_is_not_the_services_has_only_its_status(planted, asking, content):
    with pytest.raises(ProblemError, match="500 without a code: the response is not the service's"):
        asking(planted(Reply(500, content))).classify(text="a red apple")


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_without_end_is_read_up_to_a_limit(planted, asking, status, monkeypatch):
    monkeypatch.setattr(service_connection, "MAX_ANSWER_BYTES", 2**20)
    running = planted(Reply(status, b" " * 2**16, breaks="endless"))

    with pytest.raises(ClientError, match=r"of over 1 MiB|not the service's"):
        asking(running).classify(text="a red apple")

    assert len(running.attempts) == 1


def test_a_compressed_answer_is_limited_as_it_is_unpacked(planted, asking, monkeypatch):
    monkeypatch.setattr(service_connection, "MAX_ANSWER_BYTES", 2**20)
    headers = {"Content-Encoding": "gzip"}
    running = planted(Reply(200, gzip.compress(OK.content), headers), Reply(200, gzip.compress(bytes(2**26)), headers))
    client = asking(running)

    assert client.classify(text="a red apple").labels[0].label == "apple"
    with pytest.raises(NoAnswerError, match="of over 1 MiB"):
        client.classify(text="a red apple")


def test_an_answer_that_trickles_ends_with_the_call(planted, asking):
    running = planted(Reply(200, b" ", breaks="endless", pause_seconds=0.05))

    with pytest.raises(NoAnswerError, match="no whole answer in time"):
        asking(running, timeout_seconds=0.3).classify(text="a red apple")

    assert len(running.attempts) == 1


def test_a_connection_is_used_again_after_an_answer_and_after_an_error(planted, asking):
    running = planted(OK, problem(422, "bad_value"), OK)
    client = asking(running)

    client.classify(text="red")
    with pytest.raises(ProblemError):
        client.classify(text="red")
    client.classify(text="red")

    assert len({attempt.client_port for attempt in running.attempts}) == 1


def test_a_refused_connection_is_retried_until_the_last_attempt(planted, asking):
    running = planted(OK)
    running.shutdown()
    running.server_close()

    with pytest.raises(NoAnswerError, match="refused"):
        asking(running, attempts=4).tasks()

    assert len(running.slept) == 3


@pytest.mark.parametrize("is_date", [False, True])
def test_retry_after_is_honoured_as_seconds_and_as_a_date(planted, asking, is_date):
    retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True) if is_date else "7"
    running = planted(problem(503, "queue_full", Retry_After=retry_after), OK)

    asking(running).classify(text="a red apple")

    assert 5 < running.slept[0] <= 7.2


@pytest.mark.parametrize("retry_after", ["31", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_past_the_deadline_of_the_call_fails_at_once(planted, asking, retry_after):
    running = planted(problem(503, "queue_full", Retry_After=retry_after), OK)

    with pytest.raises(ProblemError) as caught:
        asking(running, timeout_seconds=30.0).classify(text="a red apple")

    assert caught.value.retry_after_seconds >= 31
    assert (len(running.attempts), running.slept) == (1, [])


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "1e3", "9" * 5_000, "Fri, 31 Dec 99999 23:59:59 GMT"])
def test_an_invalid_retry_after_is_ignored(planted, asking, retry_after):
    running = planted(problem(503, "queue_full", Retry_After=retry_after), OK)

    asking(running).classify(text="a red apple")

    assert running.slept[0] <= 0.2


def test_a_missing_answer_ends_the_call_at_its_deadline(planted, asking):
    running = planted(STALLS, OK)

    with pytest.raises(NoAnswerError, match="timed out"):
        asking(running, timeout_seconds=0.3).classify(text="a red apple")

    assert len(running.attempts) == 1


def test_a_budget_has_a_reserve_and_earns_a_retry_in_ten_requests():
    budget = RetryBudget()
    assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()


def test_a_budget_never_exceeds_its_reserve():
    budget = RetryBudget()
    for _ in range(10_000):
        budget.deposit()
    assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]
