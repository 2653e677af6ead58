from __future__ import annotations

import base64

import pytest

from service.models.graphs import Graph


def encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def cell_of(answer: dict) -> dict:
    return {name: answer[name] for name in ("task", "version", "labels", "modalities")}


def close(cells: list, others: list) -> bool:
    def plain(cell: dict) -> dict:
        scores = {label["label"]: pytest.approx(label["score"], abs=1e-6) for label in cell["labels"]}
        return {**cell, "labels": scores}

    return [plain(cell) for cell in cells] == [plain(cell) for cell in others]


def test_a_batch_gives_the_same_answers_as_single_requests(client, picture):
    inputs = [{"image": encoded(picture)}, {"text": "a red apple"}, {"image": encoded(picture), "text": "green"}]

    response = client.post("/classify/batch", json={"inputs": inputs, "tasks": ["tags", "fruit"], "top_k": 2})

    answer = response.json()
    assert response.status_code == 200, answer
    assert list(answer) == ["results", "latency_ms", "request_id"]
    for item, cells in zip(inputs, answer["results"], strict=True):
        alone = [client.post("/classify", json={**item, "task": task, "top_k": 2}).json() for task in ("tags", "fruit")]
        assert close(cells, [cell_of(answer) for answer in alone])


def test_the_error_of_an_input_or_a_task_fills_its_own_cells(client, picture, sample):
    inputs = [
        {"text": "red"},
        {},
        {"image": "%%%"},
        {"image": encoded(picture[:60])},
        {"text": "x" * 2000},
        {"text": "red", "top_k": 1},
        "red",
        {"text": "green"},
    ]
    response = client.post("/classify/batch", json={"inputs": inputs, "tasks": ["fruit", "nothing"]})

    answer = response.json()
    assert response.status_code == 200, answer
    codes = [[cell.get("code", cell.get("task")) for cell in cells] for cells in answer["results"]]
    assert [cells[0] for cells in codes] == [
        "fruit",
        "missing_input",
        "bad_base64",
        "image_undecodable",
        "text_too_large",
        "extra_field",
        "bad_value",
        "fruit",
    ]
    assert [codes[0][1], codes[3][1], codes[7][1]] == ["unknown_task"] * 3
    assert {cell["request_id"] for cells in answer["results"] for cell in cells if "code" in cell} == {
        answer["request_id"]
    }


RED = {"text": "red"}
GONE = {"image": "%%%"}


@pytest.mark.parametrize(
    ("inputs", "tasks", "counted"),
    [
        ([RED] * 5, ["fruit", "tags"], {("fruit", "text", 200): 5, ("tags", "text", 200): 5}),
        ([RED, GONE, {}], ["fruit"], {("fruit", "text", 200): 1, ("fruit", "", 422): 2}),
        ([RED, GONE], ["fruit", "made up"], {("fruit", "text", 200): 1, ("fruit", "", 422): 1, ("", "text", 404): 1}),
    ],
    ids=["all answered", "two refused inputs", "a refused task"],
)
def test_a_batch_counts_as_its_cells(client, sample, inputs, tasks, counted):
    names = {
        labels: f'mora_requests_total{{modalities="{labels[1]}",status="{labels[2]}",task="{labels[0]}"}}'
        for labels in counted
    }
    before = {labels: sample(client, name) for labels, name in names.items()}

    assert client.post("/classify/batch", json={"inputs": inputs, "tasks": tasks}).status_code == 200

    assert {labels: sample(client, name) - before[labels] for labels, name in names.items()} == counted


@pytest.mark.parametrize(
    ("inputs", "tasks", "reason", "cells"),
    [
        ([RED, {}, {}], ["fruit", "tags"], "missing_input", 4),
        ([RED] * 3, ["made up", "fruit"], "unknown_task", 3),
        ([GONE] * 64, ["fruit", "tags"], "bad_base64", 128),
    ],
)
def test_refused_cells_are_counted_by_their_reason(client, sample, inputs, tasks, reason, cells):
    before = sample(client, f'mora_rejected_total{{reason="{reason}"}}')

    assert client.post("/classify/batch", json={"inputs": inputs, "tasks": tasks}).status_code == 200

    assert sample(client, f'mora_rejected_total{{reason="{reason}"}}') == before + cells


@pytest.mark.parametrize("inputs", [1, 3, 100])
def test_a_batch_that_fails_as_a_whole_counts_as_its_cells(client, sample, monkeypatch, inputs):
    async def failing(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.web.routes.classify_batch", failing)
    failed, rejected = (
        'mora_requests_total{modalities="",status="500",task=""}',
        'mora_rejected_total{reason="internal"}',
    )
    before = sample(client, failed), sample(client, rejected)

    assert client.post("/classify/batch", json={"inputs": [RED] * inputs, "tasks": ["fruit"]}).status_code == 500

    assert (sample(client, failed) - before[0], sample(client, rejected) - before[1]) == (inputs, inputs)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"inputs": [], "tasks": ["fruit"]}, "bad_value"),
        ({"inputs": [{"text": "red"}], "tasks": []}, "bad_value"),
        ({"inputs": {"text": "red"}, "tasks": ["fruit"]}, "bad_value"),
        ({"inputs": [{"text": "red"}]}, "bad_value"),
        ({"inputs": [{"text": "red"}], "tasks": ["fruit"], "task": "fruit"}, "extra_field"),
        ({"inputs": [{"text": "red"}] * 129, "tasks": ["fruit", "tags"]}, "bad_value"),
    ],
)
def test_an_invalid_batch_is_refused(client, body, code):
    response = client.post("/classify/batch", json=body)
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_a_batch_is_json(client):
    response = client.post("/classify/batch", data={"inputs": "red"}, files={"image": b"x"})
    assert (response.status_code, response.json()["code"]) == (415, "content_type")


def test_tasks_on_one_backbone_share_the_trunk_of_an_input(shelf, serve, picture, monkeypatch):
    shelf.publish("fruit", seed=1)
    shelf.publish("tags", seed=2)
    client, runs = serve(shelf.store), []
    run = Graph.run_on_device
    monkeypatch.setattr(
        Graph,
        "run_on_device",
        lambda graph, *inputs, **options: runs.append(graph.input_names[0]) or run(graph, *inputs, **options),
    )
    body = {"inputs": [{"image": encoded(picture), "text": "red"}], "tasks": ["fruit", "tags", "fruit"]}

    [cells] = client.post("/classify/batch", json=body).json()["results"]

    assert [cell["task"] for cell in cells] == ["fruit", "tags", "fruit"]
    assert sorted(runs) == ["image_hidden"] * 2 + ["input_ids", "pixel_values"] + ["text_hidden"] * 2


def test_an_exception_of_one_input_is_logged_and_fills_its_cells(own_client, monkeypatch, events):
    run = Graph.run_on_device

    def odd(graph: Graph, *inputs, **options):
        if graph.input_names == ["input_ids"] and inputs[0].shape[1] == 5:
            raise RuntimeError("a secret path")
        return run(graph, *inputs, **options)

    monkeypatch.setattr(Graph, "run_on_device", odd)
    body = {"inputs": [{"text": "red"}, {"text": "a red apple"}, {"text": "a apple"}], "tasks": ["fruit"]}

    response = own_client.post("/classify/batch", json=body)

    assert [cells[0].get("code") for cells in response.json()["results"]] == [None, "internal", None]
    assert "secret" not in response.text
    assert [event["event"] for event in events].count("internal_error") == 1


def test_a_batch_larger_than_the_queue_is_answered(shelf, serve):
    shelf.publish("fruit")
    client = serve(shelf.store, queue_size=16)
    inputs = [{"text": "red " * (1 + number % 5)} for number in range(100)]
    results = client.post("/classify/batch", json={"inputs": inputs, "tasks": ["fruit"]}).json()["results"]
    assert [cell["task"] for cells in results for cell in cells] == ["fruit"] * 100


def test_the_cache_is_off_by_default_and_counts_when_it_is_on(shelf, serve, sample, picture):
    shelf.publish("fruit")
    body = {"image": encoded(picture), "text": "red"}
    for cache_bytes, hits in ((0, 0), (1_000_000, 2)):
        client = serve(shelf.store, cache_bytes=cache_bytes)
        first, second = (client.post("/classify", json=body).json() for _ in range(2))
        assert close([cell_of(first)], [cell_of(second)])
        assert sample(client, 'mora_cache_requests_total{result="hit"}') == hits
        assert sample(client, 'mora_cache_requests_total{result="miss"}') == hits
