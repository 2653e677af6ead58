"""Query parameters."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import iter_route_contexts

from tests.support.problem_code import code_of

ITEM = {"task": "fruit", "text": "a red apple"}


def post_paths(client) -> list[str]:
    paths = [route.path for route in iter_route_contexts(client.app.routes) if "POST" in (route.methods or ())]
    return [path.replace("{task}", "fruit").replace("{version}", "1") for path in paths]


def test_every_post_route_refuses_query_parameters(client, sample):
    paths = post_paths(client)
    assert {"/classify", "/embed", "/classify/batch", "/v1/embeddings", "/v2/models/fruit/infer"} <= {*paths}
    before = sample(client, 'mora_rejected_total{reason="extra_field"}')
    for path in paths:
        answer = client.post(f"{path}?top_k=2", json=ITEM)
        assert answer.status_code == (400 if path.startswith("/v1") else 422), path
        assert code_of(answer.json()) == "extra_field"
        assert "(top_k)" in answer.text
        assert ("error" in answer.json()) == path.startswith(("/v1", "/v2"))
    assert sample(client, 'mora_rejected_total{reason="extra_field"}') == before + len(paths)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("task=fruit", "(task)"),
        ("task=fruit&top_k=2&explain=true", "(task, top_k, explain)"),
        ("task=a&task=b", "(task)"),
        ("timeout-ms=5", "(timeout-ms)"),
        ("verbose", "(verbose)"),
        ("t%61sk=fruit", "(task)"),
        ("&".join(f"a{number}=1" for number in range(50)), "(a0, a1, a2, a3, a4)"),
        ("=fruit", "parameters; "),
        ("<script>=1", "parameters; "),
        ("a%0d%0ab=1&task=1", "(task)"),
        ("%ff=1", "parameters; "),
        ("a" * 5_000, "parameters; "),
        ("?", "parameters; "),
    ],
)
def test_a_problem_names_the_parameters_that_can_be_names(client, query, named):
    answer = client.post(f"/classify?{query}", json=ITEM)
    assert (answer.status_code, answer.json()["code"]) == (422, "extra_field")
    assert named in answer.json()["detail"]
    assert len(answer.content) <= 1024
    assert re.search(r"[<\r\n]|aaaa", answer.json()["detail"]) is None


@pytest.mark.parametrize("query", ["", "?", "?&", "?&&"])
def test_a_query_without_a_parameter_is_none(client, query):
    assert client.post(f"/classify{query}", json=ITEM).status_code == 200


@pytest.mark.parametrize("path", ["/tasks?page=2", "/livez?x", "/docs?url=/other", "/nothing?task=fruit"])
def test_other_requests_may_have_query_parameters(client, path):
    assert client.get(path).status_code == (404 if "nothing" in path else 200)
    assert client.head(path).status_code == client.get(path).status_code


def test_a_path_that_does_not_exist_is_not_found_whatever_its_query(client):
    assert client.post("/nothing?task=fruit", json=ITEM).status_code == 404
    assert client.post("/tasks?task=fruit", json=ITEM).status_code == 405
