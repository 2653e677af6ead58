"""HEAD wherever GET works, and the Allow header of answers to other methods."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import iter_route_contexts

from service.web.keys import key_line
from service.web.page import page_paths
from tests.support.problem_code import code_of

KEY = {"Authorization": "Bearer shop-key-0123456789"}
EXAMPLES = {"{task}": "fruit", "{version}": "1", "{number}": "0", "{name}": "page.js"}
CHANGING = {"date", "x-request-id", "content-length", "server-timing"}  # of metrics, the length


def get_paths(client) -> list[str]:
    """Every path that answers GET."""
    paths = [route.path for route in iter_route_contexts(client.app.routes) if "GET" in (route.methods or ())]
    for name, example in EXAMPLES.items():
        paths = [path.replace(name, example) for path in paths]
    return [*paths, *page_paths(), "/docs/assets/swagger-ui.css"]


def test_every_path_that_answers_get_answers_head_alike(client):
    paths = get_paths(client)
    assert {"/", "/docs", "/openapi.json", "/livez", "/metrics", "/tasks/fruit/report", "/v2/health/ready"} <= {*paths}
    for path in [*paths, "/nothing", "/tasks/nothing", "/v2/models/nothing", "/docs/assets/nothing"]:
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        same = [{n: value for n, value in answer.headers.items() if n not in CHANGING} for answer in (get, head)]
        assert same[0] == same[1], path
        assert path == "/metrics" or head.headers["Content-Length"] == get.headers["Content-Length"]


def test_the_openapi_document_lists_no_head(client):
    document = client.get("/openapi.json").json()
    assert {method for methods in document["paths"].values() for method in methods} == {"get", "post"}


@pytest.mark.parametrize("path", ["/tasks", "/", "/livez", "/metrics", "/tasks/fruit", "/nothing"])
def test_head_needs_a_key_where_get_does(shelf, serve, tmp_path, path):
    shelf.publish("fruit")
    (tmp_path / "keys").write_text(key_line("shop", KEY["Authorization"].removeprefix("Bearer ")))
    client = serve(shelf.store, api_keys_file=tmp_path / "keys")
    for headers in ({}, KEY):
        assert client.head(path, headers=headers).status_code == client.get(path, headers=headers).status_code


def test_head_counts_against_the_rate_limit(shelf, serve):
    shelf.publish("fruit")
    client = serve(shelf.store, rate_limit=0.01, rate_burst=2)
    statuses = [client.request(method, "/tasks").status_code for method in ("HEAD", "GET", "HEAD", "GET")]
    assert statuses == [200, 200, 429, 429]
    assert [client.head("/livez").status_code for _ in range(5)] == [200] * 5


def test_head_is_logged_with_its_route_unless_it_is_a_probe(client, events):
    for path in ("/tasks/fruit", "/livez", "/readyz", "/v2/health/live", "/metrics", "/nothing", "/classify"):
        client.head(path)
    lines = [(line["method"], line["route"], line["status"]) for line in events if line["event"] == "request"]
    assert lines == [("HEAD", "/tasks/{task}", 200), ("HEAD", None, 404), ("HEAD", "/classify", 405)]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((path, "GET, HEAD") for path in ("/", "/tasks", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json")),
        *((path, "GET, HEAD") for path in ("/tasks/fruit/report", "/playground/page.js", "/docs/assets/favicon.png")),
        *((path, "GET, HEAD") for path in ("/v2", "/v2/health/ready", "/v2/models/fruit/versions/1")),
        *((path, "POST") for path in ("/classify", "/embed", "/classify/batch", "/v2/models/fruit/infer")),
        *((path, "POST") for path in ("/v1/moderations", "/v1/embeddings")),
    ],
)
def test_the_allow_header_names_the_methods_of_a_path(client, path, allowed):
    others = {"DELETE", "OPTIONS", "PATCH", "PUT", "TRACE", "GET", "HEAD", "POST"} - {*allowed.split(", ")}
    for method in others:
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), method
    assert code_of(client.delete(path).json()) == "method_not_allowed"


@pytest.mark.parametrize("path", ["/tasks", "/docs", "/classify"])
def test_the_body_of_a_problem_is_left_out_too(client, path):
    answer = client.request("HEAD", f"{path}/nothing")
    assert (answer.status_code, answer.content) == (404, b"")
    assert re.fullmatch("[1-9][0-9]+", answer.headers["Content-Length"])
