"""`mora-serve classify --url` waits for an unreachable service, and fails after a while."""

from __future__ import annotations

import json
import re

import pytest

import service.labelling.answerers
from model_store import service_connection
from service.client import Client
from tests.support.closed_service import CANARY
from tests.support.faulty_service import ANSWER, RESET, Reply, faulty_service, problem


@pytest.fixture
def tasks(real):
    """The answer of a service with the task `fruit` to `GET /tasks`, as a planted reply."""
    with Client(real.url, CANARY) as client:
        answer = client.tasks()
    answer.tasks.pop()
    return Reply(content=answer.model_dump_json().encode())


@pytest.mark.parametrize(
    ("reply", "complaint", "retryable"),
    [
        (problem(503, "version_refused"), "503 version_refused", False),
        (problem(404, "unknown_version"), "404 unknown_version", False),
        (problem(503, "queue_full"), "503 queue_full", True),
        (Reply(502, b"<html>"), "502 without a code", True),
        (RESET, "gives no answer", True),
    ],
)
@pytest.mark.slow
def test_the_command_fails_if_the_service_answers_no_row(
    run, table, tasks, tmp_path, monkeypatch, reply, complaint, retryable
):
    monkeypatch.setattr(service_connection, "sleep", lambda _: None)
    monkeypatch.setattr(service.labelling.answerers, "MAX_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(service.labelling.answerers, "FIRST_WAIT_SECONDS", 0.01)
    replies = [tasks]
    with faulty_service(lambda: replies.pop() if replies else reply) as running:
        done = run(table, "--output", tmp_path / "out.csv", "--url", running.base)

    assert done.exit_code == 1
    assert re.fullmatch(f"error: .*{complaint}.*\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.csv"]
    asked = [attempt for attempt in running.attempts if attempt.path == "/classify"]
    assert (len(asked) > 2) is retryable  # two rows


def test_the_command_waits_for_a_busy_service(run, table, tasks, monkeypatch):
    monkeypatch.setattr(service_connection, "sleep", lambda _: None)
    monkeypatch.setattr(service.labelling.answerers, "FIRST_WAIT_SECONDS", 0.001)
    replies = [tasks, *[problem(503, "draining")] * 8, *[problem(429, "rate_limited")] * 8]
    with faulty_service(lambda: replies.pop(0) if replies else Reply()) as running:
        done = run(table, "--url", running.base)

    assert done.exit_code == 0, done.stderr
    assert [json.loads(line)["predicted_label"] for line in done.stdout.splitlines()] == ["apple", "apple"]
    bodies = [json.loads(attempt.body) for attempt in running.attempts if attempt.path == "/classify"]
    assert {(body["task"], body["version"]) for body in bodies} == {("fruit", ANSWER["version"])}


def test_only_the_row_that_a_proxy_refuses_as_too_large_fails(run, table, tasks):
    replies = [tasks, Reply(413, b"<html>")]
    with faulty_service(lambda: replies.pop(0) if replies else Reply()) as running:
        done = run(table, "--url", running.base)

    assert done.exit_code == 0
    assert sorted(str(json.loads(line)["error"]) for line in done.stdout.splitlines()) == ["None", "body_too_large"]
