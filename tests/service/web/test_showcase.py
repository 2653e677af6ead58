"""The examples, the report and the versions of a task."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from model_store import Store, blob_of
from tests.support.tiny import LABELS, TinyDraft

REPORT = b"<!doctype html><title>how</title><script>fetch('/tasks')</script>"


def with_report(draft: TinyDraft) -> TinyDraft:
    blob = blob_of(REPORT)
    return TinyDraft(draft.manifest.model_copy(update={"report": blob}), {**draft.blobs, blob.sha256: REPORT})


def test_examples_are_the_golden_examples_with_their_labels_at_the_export(client, shelf):
    golden = shelf.draft("fruit").manifest.golden
    answer = client.get("/tasks/fruit/examples").json()
    assert (answer["task"], answer["version"]) == ("fruit", 1)
    assert answer["examples"] == [
        {
            "pattern": example.pattern,
            "text": example.text,
            "has_image": example.image is not None,
            "best_label": LABELS["fruit"][int(np.argmax(example.logits))],
        }
        for example in golden
    ]


def test_the_picture_of_an_example_is_its_file_and_forbids_scripts(client, shelf):
    draft = shelf.draft("fruit")
    response = client.get("/tasks/fruit/examples/1/image")
    assert response.content == draft.blobs[draft.manifest.golden[1].image.sha256]
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_a_report_is_sent_with_headers_that_forbid_its_scripts(shelf, serve):
    shelf.publish_draft(with_report(shelf.draft("fruit")))
    client = serve(shelf.store)
    response = client.get("/tasks/fruit/report")
    assert response.content == REPORT
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy == ["sandbox", "default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert client.get("/tasks/fruit").json()["has_report"] is True


def test_versions_are_those_of_the_store_and_the_served_one_is_live(shelf, serve):
    for seed in range(3):
        shelf.publish("fruit", seed)
    client = serve(shelf.store)
    assert client.get("/tasks/fruit/versions").json() == {
        "task": "fruit",
        "versions": [{"version": 3, "live": True}, {"version": 2, "live": False}, {"version": 1, "live": False}],
    }


def test_a_damaged_or_missing_file_is_a_problem(shelf, serve, events):
    manifest = shelf.publish_draft(with_report(shelf.draft("fruit")))
    client = serve(shelf.store)
    (shelf.store.root / "blobs/sha256" / manifest.report.sha256).write_bytes(REPORT.replace(b"how", b"who"))
    (shelf.store.root / "blobs/sha256" / manifest.golden[0].image.sha256).unlink()
    for path in ("report", "examples/0/image"):
        response = client.get(f"/tasks/fruit/{path}")
        assert (response.status_code, response.json()["code"]) == (503, "store_unreadable")
    assert [event["problem"].split()[1] for event in events if event["event"] == "store_unreadable"] == ["has", "is"]


@pytest.mark.parametrize("path", ["report", "examples/0/image", "versions"])
def test_the_event_loop_never_reads_a_file(shelf, serve, monkeypatch, path):
    shelf.publish_draft(with_report(shelf.draft("fruit")))
    client = serve(shelf.store, poll_seconds=3600)
    threads = []
    for name in ("read", "versions"):
        method = getattr(Store, name)

        def noted(*arguments, method=method):
            threads.append(threading.current_thread().name)
            return method(*arguments)

        monkeypatch.setattr(Store, name, noted)
    assert client.get(f"/tasks/fruit/{path}").status_code == 200
    assert [name.rpartition("_")[0] for name in threads] == ["mora-showcase"]


def without_examples(draft: TinyDraft) -> TinyDraft:
    config = {"publish": {"examples": False, "report": False}}
    provenance = draft.manifest.provenance.model_copy(update={"config": config})
    return TinyDraft(draft.manifest.model_copy(update={"provenance": provenance}), draft.blobs)


@pytest.mark.parametrize(
    ("path", "code", "detail"),
    [
        ("examples", "no_examples", "This version was published without examples of its data."),
        ("examples/0/image", "no_examples", "This version was published without examples of its data."),
        ("examples/99/image", "no_examples", "This version was published without examples of its data."),
        ("report", "no_report", "This version was published without its training report."),
    ],
)
def test_what_a_version_was_published_without_is_a_clear_problem(shelf, serve, path, code, detail):
    shelf.publish_draft(without_examples(shelf.draft("fruit")))
    response = serve(shelf.store).get(f"/tasks/fruit/{path}")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["detail"]) == (code, detail)


def test_a_version_without_examples_still_answers(shelf, serve):
    """Its golden examples are made up, and the service checks them as it checks others."""
    shelf.publish_draft(without_examples(shelf.draft("fruit")))
    client = serve(shelf.store)
    assert client.post("/classify", json={"task": "fruit", "text": "a red apple"}).status_code == 200
    assert client.get("/tasks/fruit").json()["has_report"] is False
