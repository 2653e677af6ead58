"""API keys, open paths, the Host header and the rate limit."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from service.errors import Code
from service.web.access import Access
from service.web.hosts import AllowedHosts
from service.web.keys import key_line
from service.web.monitoring_paths import PROBES
from service.web.page import page_paths
from tests.support.problem_code import code_of

KEY, OTHER = "shop-key-0123456789", "blog-key-0123456789"
SHOP = {"Authorization": f"Bearer {KEY}"}
ITEM = {"task": "fruit", "text": "a red apple"}


@pytest.fixture
def keys_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("\n".join([key_line("shop", KEY), key_line("blog", OTHER)]))
    return path


@pytest.fixture
def locked(shelf, serve, keys_file):
    shelf.publish("fruit")
    return serve(shelf.store, api_keys_file=keys_file)


def paths_of(client: TestClient) -> list[tuple[str, str]]:
    """Each method and path of the service."""
    paths = [("GET", "/docs/assets/favicon.png")]  # of a mount
    for route in iter_route_contexts(client.app.routes):
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        paths += [(method, path) for method in route.methods or ["GET"]]
    return paths


def test_every_route_needs_a_key_except_the_probes_and_the_page(locked):
    paths = [*paths_of(locked), *(("GET", path) for path in page_paths())]
    assert {("POST", "/classify"), ("GET", "/docs"), ("GET", "/metrics"), ("GET", "/openapi.json")} <= set(paths)
    open_to_all = {path for method, path in paths if locked.request(method, path).status_code != 401}
    assert open_to_all == {*PROBES, *page_paths()}


TRICKS = [
    "/nowhere", "/livez/", "/livez/../tasks", "/livez/..%2ftasks", "/livez%2f", "/livez%00", "/livez;x",
    "/LIVEZ", "/readyz/tasks", "/tasks?/livez", "/tasks?path=/livez", "/tasks%3f/livez", "/%2flivez",
    "/playground", "/playground/", "/playground/nothing.js", "/playground/..%2ftasks", "/playground/index.html",
]  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
def test_only_the_exact_paths_of_the_probes_and_files_are_open(locked, path):
    response = locked.get(path)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY} {KEY}"},
        {"Authorization": f"Bearer {KEY}, Bearer {KEY}"},
        {"Authorization": f"Bearer\t{KEY}"},
        [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
        [("Authorization", f"Bearer {KEY}"), ("Authorization", "")],
        {"X-API-Key": KEY},
        {"Cookie": f"Authorization=Bearer {KEY}"},
        {"X-Original-URL": "/livez", "X-Forwarded-Prefix": "/livez"},
    ],
)
def test_a_request_without_exactly_one_valid_key_gets_a_problem(locked, sample, headers):
    response = locked.post("/classify", json=ITEM, headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["Content-Type"] == "application/problem+json"
    assert len(response.content) <= 1024
    assert KEY not in response.text


def test_a_valid_key_is_accepted_and_its_name_is_logged(locked, events):
    assert locked.post("/classify", json=ITEM, headers=SHOP).status_code == 200
    assert locked.post("/classify", json=ITEM, headers={"Authorization": f"bearer  {OTHER}"}).status_code == 200
    assert locked.get("/nowhere", headers=SHOP).status_code == 404
    assert locked.post("/classify", json=ITEM).status_code == 401
    lines = [event for event in events if event["event"] == "request"]
    assert [line["client"] for line in lines] == ["shop", "blog", "shop", None]
    assert KEY not in str(events)


def test_a_refusal_is_counted_on_every_path_including_the_metrics(locked):
    for path in ("/tasks", "/metrics", "/nowhere"):
        locked.get(path)
    lines = locked.get("/metrics", headers=SHOP).text.splitlines()
    assert 'mora_rejected_total{reason="unauthorized"} 3.0' in lines
    assert "shop" not in "".join(lines)


def test_without_a_file_of_keys_everything_is_open(client):
    assert client.post("/classify", json=ITEM).status_code == 200


def test_a_websocket_is_closed_before_it_reaches_a_route():
    class Accepting:
        async def __call__(self, scope, receive, send) -> None:
            await send({"type": "websocket.accept"})

    client = TestClient(Access(Accepting(), AllowedHosts(), keys=None, limit=None))
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/livez"):
        pass


@pytest.mark.parametrize("host", ["", "a/livez?x=", "a b", "a,b", "a@b", "a:b", "[::1", "a:123456", "é", "a#", "a\\b"])
@pytest.mark.slow
def test_an_invalid_host_is_refused_on_every_path(locked, host):
    for method, path in paths_of(locked):
        response = locked.request(method, path, headers={"Host": host.encode()})
        assert response.status_code == 400
        if method != "HEAD":
            assert code_of(response.json()) == "bad_host"


@pytest.mark.parametrize("host", ["a", "a.example", "a_b:8000", "127.0.0.1:80", "[::1]", "[::1]:8000"])
def test_a_valid_host_is_accepted(client, host):
    assert client.get("/livez", headers={"Host": host}).status_code == 200


def test_two_hosts_are_refused(client):
    assert client.get("/livez", headers=[("Host", "a"), ("Host", "a")]).json()["code"] == "bad_host"


def test_the_rate_limit_of_one_client_does_not_affect_another(shelf, serve, keys_file, sample):
    shelf.publish("fruit")
    client = serve(shelf.store, api_keys_file=keys_file, rate_limit=0.01, rate_burst=3)
    codes = [client.post("/classify", json=ITEM, headers=SHOP).status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    refused = client.get("/tasks", headers=SHOP)
    assert refused.json()["code"] == Code.RATE_LIMITED
    assert 1 <= int(refused.headers["Retry-After"]) <= 100
    assert client.get("/tasks", headers={"Authorization": f"Bearer {OTHER}"}).status_code == 200
    assert [client.get("/livez").status_code for _ in range(20)] == [200] * 20


def test_requests_without_a_key_do_not_count_against_the_limit(shelf, serve, keys_file):
    shelf.publish("fruit")
    client = serve(shelf.store, api_keys_file=keys_file, rate_limit=0.01, rate_burst=1)
    assert {client.get("/tasks").status_code for _ in range(20)} == {401}
    assert client.get("/tasks", headers=SHOP).status_code == 200


def test_without_keys_all_clients_share_one_limit(shelf, serve):
    client = serve(shelf.store, rate_limit=0.01, rate_burst=2)
    assert [client.get("/tasks").status_code for _ in range(4)] == [200, 200, 429, 429]


def test_the_main_port_has_no_metrics_if_they_have_their_own_port(shelf, serve):
    client = serve(shelf.store, metrics_port=0)
    assert client.get("/metrics").status_code == 404
    assert "/metrics" not in client.get("/openapi.json").json()["paths"]


@pytest.fixture
def scoped(shelf, serve, tmp_path):
    """A service with the tasks `fruit` and `tags`; the key allows `fruit` alone."""
    shelf.publish("fruit")
    shelf.publish("tags")
    path = tmp_path / "scoped"
    path.write_text(key_line("shop", KEY, ["fruit"]))
    client = serve(shelf.store, api_keys_file=path)
    client.headers.update(SHOP)
    return client


@pytest.mark.parametrize("task", ["tags", "nothing"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/classify", {"task": "TASK", "text": "red"}),
        ("POST", "/classify", {"task": "TASK", "version": 1, "text": "red"}),
        ("POST", "/embed", {"task": "TASK", "text": "red"}),
        ("POST", "/v1/moderations", {"model": "TASK", "input": "red"}),
        ("POST", "/v1/embeddings", {"model": "TASK", "version": 1, "input": ["red", "green"]}),
        ("GET", "/tasks/TASK", None),
        ("GET", "/tasks/TASK/versions", None),
        ("GET", "/tasks/TASK/report", None),
        ("GET", "/tasks/TASK/examples", None),
        ("GET", "/tasks/TASK/examples/0/image", None),
        ("GET", "/v2/models/TASK", None),
        ("GET", "/v2/models/TASK/versions/1", None),
        ("GET", "/v2/models/TASK/ready", None),
        (
            "POST",
            "/v2/models/TASK/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["red"]}]},
        ),
        ("GET", "/metrics", None),
    ],
)
@pytest.mark.slow
def test_a_key_for_some_tasks_reaches_no_other_and_does_not_learn_whether_it_exists(scoped, method, path, body, task):
    fields = body and {name: task if value == "TASK" else value for name, value in body.items()}
    response = scoped.request(method, path.replace("TASK", task), json=fields)

    assert response.status_code == 403
    assert "does not allow" in response.text or "metrics" in response.text


def test_a_key_for_some_tasks_uses_and_lists_those(scoped):
    assert scoped.post("/classify", json={"task": "fruit", "text": "red"}).status_code == 200
    assert scoped.get("/v2/models/fruit/ready").status_code == 200
    assert [task["task"] for task in scoped.get("/tasks").json()["tasks"]] == ["fruit"]
    cells = scoped.post("/classify/batch", json={"tasks": ["fruit", "tags"], "inputs": [{"text": "red"}]}).json()[
        "results"
    ][0]
    assert [cell.get("code") for cell in cells] == [None, "forbidden"]


def test_an_expired_key_is_refused(shelf, serve, tmp_path):
    shelf.publish("fruit")
    path = tmp_path / "expired"
    path.write_text(key_line("shop", KEY, expires="2020-02-29"))

    response = serve(shelf.store, api_keys_file=path).get("/tasks", headers=SHOP)

    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert "expired" in response.json()["detail"]
