"""Tasks, health, metrics and the OpenAPI document.

Covers service.web.app.
"""

from __future__ import annotations

import json
import re
import time

import pytest


def test_tasks_are_listed_with_their_details(client):
    fruit, tags = client.get("/tasks").json()["tasks"]
    assert list(fruit) == ["task", "version", "problem", "labels", "embedding_size", "backbone", "precision"]
    assert (fruit["task"], fruit["version"], fruit["problem"]) == ("fruit", 1, "single_label")
    assert tags["labels"] == ["red", "round", "sweet", "cheap"]
    assert (tags["problem"], tags["precision"], tags["backbone"]["name"]) == ("multi_label", "fp32", "tiny/clip")


def test_the_details_of_a_task_have_its_metrics_and_its_provenance(client, shelf):
    manifest = json.loads(shelf.draft("tags").manifest.model_dump_json())
    detail = client.get("/tasks/tags").json()
    for name in ("labels", "calibration", "metrics", "training_mix", "backbone", "problem", "provenance"):
        assert detail[name] == manifest[name]
    assert detail["max_logit_error"] == manifest["graphs"]["fp32"]["max_logit_error"]
    assert detail["version"] == 1


def test_probes_answer_and_are_not_counted_as_requests(client, sample):
    before = client.get("/metrics").text.count("mora_requests_total{")
    for path in ("/livez", "/readyz"):
        response = client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert client.get("/metrics").text.count("mora_requests_total{") == before


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_ready_fails_when_an_encoder_takes_no_work(shelf, serve, monkeypatch, occupied, encoder):
    shelf.publish("fruit")
    client = serve(shelf.store, encoder_workers=1)
    monkeypatch.setattr("service.inference.engine.STALL_SECONDS", 0.05)
    with occupied(client, encoder):
        time.sleep(0.1)
        response = client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "stalled")
    assert client.get("/livez").status_code == 200


def test_an_answer_is_counted_in_every_metric_of_requests(client, picture, sample):
    import base64

    item = {"task": "fruit", "image": base64.b64encode(picture).decode(), "text": "red"}
    expected = [
        'mora_requests_total{modalities="both",status="200",task="fruit"}',
        'mora_request_duration_seconds_count{modalities="both",task="fruit"}',
        'mora_prediction_confidence_count{modalities="both",task="fruit"}',
        'mora_batch_size_count{encoder="image"}',
        'mora_batch_size_count{encoder="text"}',
    ]
    stages = ("decode", "tokenize", "queue", "image_encoder", "text_encoder", "head", "total")
    expected += [f'mora_stage_duration_seconds_count{{stage="{stage}"}}' for stage in stages]
    before = {series: sample(client, series) for series in expected}

    answer = client.post("/classify", json=item).json()

    assert {series: sample(client, series) - before[series] for series in expected} == dict.fromkeys(expected, 1.0)
    best = answer["labels"][0]["label"]
    assert sample(client, f'mora_predictions_total{{label="{best}",task="fruit"}}') >= 1
    assert sample(client, "mora_inflight_requests") == 0
    assert sample(client, 'mora_queue_depth{encoder="image"}') == 0
    assert sample(client, 'mora_model_loads_total{result="loaded",task="fruit"}') == 1
    assert sample(client, "mora_model_load_duration_seconds_count") == 2
    assert sample(client, "process_open_fds") > 0


def test_invented_names_create_no_series(client):
    def series() -> set[str]:
        lines = client.get("/metrics").text.splitlines()
        return {re.sub(r" [^ ]*$", "", line) for line in lines if not line.startswith("#")}

    client.post("/classify", json={"task": "made-up", "text": "a"})
    client.get("/made-up")
    before = series()
    for number in range(50):
        client.post("/classify", json={"task": f"made-up-{number}", "text": "a"})
        client.get(f"/tasks/made-up-{number}")
        client.get(f"/made-up-{number}")
        client.request(f"MADE{number}", "/classify")
    assert {name for name in series() - before if "method_not_allowed" not in name and '"405"' not in name} == set()
    assert "made-up" not in client.get("/metrics").text


def test_openapi_describes_both_forms_of_a_request(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/classify"]["post"]
    names = {kind: form["schema"]["$ref"] for kind, form in operation["requestBody"]["content"].items()}
    assert names == {
        "application/json": "#/components/schemas/ClassifyRequest",
        "multipart/form-data": "#/components/schemas/ClassifyForm",
    }
    request, form = (document["components"]["schemas"][name] for name in ("ClassifyRequest", "ClassifyForm"))
    fields = {"task", "image", "text", "top_k", "version", "explain", "coverage", "timeout_ms"}
    assert set(request["properties"]) == set(form["properties"]) == fields
    assert request["additionalProperties"] is form["additionalProperties"] is False
    assert form["properties"]["image"]["format"] == "binary"
    assert "null" not in json.dumps(form)  # a form cannot hold it
    assert operation["responses"].keys() == {"200", "4XX", "5XX"}


@pytest.mark.parametrize("path", ["/tasks", "/tasks/fruit", "/livez", "/readyz", "/openapi.json", "/docs"])
def test_every_answer_has_a_request_id(client, path):
    assert re.fullmatch(r"[0-9a-f]{32}", client.get(path).headers["X-Request-ID"])


def test_the_log_has_one_line_for_each_request_without_its_input(client, events):
    response = client.post("/classify", json={"task": "fruit", "text": "secret-text-9"})
    client.post("/classify", json={"task": "secret-task-9", "text": "a"})
    client.get("/secret-path-9")
    lines = [event for event in events if event["event"] == "request"]
    assert len(lines) == 3
    assert lines[0]["request_id"] == response.json()["request_id"]
    assert (lines[0]["task"], lines[0]["version"], lines[0]["modalities"]) == ("fruit", 1, "text")
    assert lines[0]["stages_ms"] == response.json()["latency_ms"]
    assert [line["status"] for line in lines] == [200, 404, 404]
    assert [line["problem"] for line in lines] == [None, "unknown_task", "not_found"]
    assert "secret" not in json.dumps(lines)
