"""Requests from web pages of other origins."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from service.errors import queue_full
from service.web.cors import cors_headers
from service.web.keys import key_line

SHOP, OTHER = "https://shop.example", "https://other.example"
KEY = "shop-key-0123456789"
ITEM = {"task": "fruit", "text": "a red apple"}
EXPOSED = {"X-Request-ID", "Retry-After", "Server-Timing"}


def preflight(client, origin: str, path: str = "/classify", method: str = "POST", **headers: str):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, **headers}
    return client.options(path, headers=asked)


@pytest.fixture
def open_to_shop(shelf, serve, tmp_path):
    """It needs keys, has a rate limit, and takes bodies of 2,000 bytes."""
    shelf.publish("fruit")
    (tmp_path / "keys").write_text(key_line("shop", KEY))
    limits = {"max_body_bytes": 2_000, "rate_limit": 1e-3, "rate_burst": 5}
    return serve(shelf.store, cors_origins=f"{SHOP}, http://[::1]:3000", api_keys_file=tmp_path / "keys", **limits)


@pytest.mark.parametrize(
    "path", ["/classify", "/classify/batch", "/v1/embeddings", "/v2/models/fruit/infer", "/tasks", "/livez", "/docs"]
)
@pytest.mark.parametrize("origin", [SHOP, "http://[::1]:3000"])
def test_a_preflight_request_of_an_allowed_origin_needs_no_key(open_to_shop, path, origin):
    asked = "authorization,content-type,x-request-id"
    for method in ("POST", "GET", "HEAD"):
        answer = preflight(open_to_shop, origin, path, method, **{"Access-Control-Request-Headers": asked})
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
        assert answer.headers["Access-Control-Allow-Headers"] == asked
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://shop.example", f"{SHOP}:8443", f"{SHOP}.evil.example", SHOP.upper(), "", "*"]
)
def test_another_origin_is_not_allowed(open_to_shop, origin):
    assert "Access-Control-Allow-Origin" not in preflight(open_to_shop, origin).headers
    answer = open_to_shop.get("/livez", headers={"Origin": origin})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_request_for_another_method_is_refused(open_to_shop):
    for method in ("DELETE", "PUT", "PATCH"):
        assert preflight(open_to_shop, SHOP, method=method).status_code == 400


def test_answers_and_problems_can_be_read_by_an_allowed_page(open_to_shop, monkeypatch):
    headers = {"Origin": SHOP, "Authorization": f"Bearer {KEY}"}
    planted = iter([RuntimeError("planted"), queue_full()])

    def fail(*_: object) -> None:
        raise next(planted)

    def post(**more: str):
        return open_to_shop.post("/classify", json=ITEM, headers={**headers, **more})

    answers = [
        (200, post()),
        (401, post(Authorization="")),
        (400, post(Host="a b")),
        (413, open_to_shop.post("/classify", json={**ITEM, "text": "a" * 3_000}, headers=headers)),
        (404, open_to_shop.get("/nothing", headers=headers)),
    ]
    monkeypatch.setattr("service.web.parsing.RequestParser.item", fail)
    answers += [(500, post()), (503, post()), (429, post())]
    for status, answer in answers:
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP, status
        assert {*answer.headers["Access-Control-Expose-Headers"].split(", ")} >= EXPOSED
        assert "Origin" in answer.headers["Vary"]
        assert answer.headers["X-Request-ID"]
        assert ("Retry-After" in answer.headers) == (status in (429, 503))


@pytest.mark.parametrize("origin", [SHOP, OTHER, "null", "chrome-extension://abc"])
def test_a_star_allows_every_origin(shelf, serve, origin):
    client = serve(shelf.store, cors_origins="*")
    assert preflight(client, origin).headers["Access-Control-Allow-Origin"] == "*"
    no_model = client.get("/readyz", headers={"Origin": origin})
    assert (no_model.status_code, no_model.headers["Access-Control-Allow-Origin"]) == (503, "*")


@pytest.mark.parametrize("headers", [{"Origin": SHOP}, {"Origin": "null"}, {}])
def test_without_the_setting_no_page_of_another_origin_is_allowed(client, headers):
    answers = [client.options("/classify", headers={**headers, "Access-Control-Request-Method": "POST"})]
    answers += [client.get("/tasks", headers=headers), client.post("/classify", json=ITEM, headers=headers)]
    assert [answer.status_code for answer in answers] == [405, 200, 200]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)


def test_options_without_a_preflight_is_another_method(open_to_shop):
    for headers in ({"Origin": SHOP}, {"Access-Control-Request-Method": "POST"}, {}):
        answer = open_to_shop.options("/classify", headers={**headers, "Authorization": f"Bearer {KEY}"})
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_a_page_may_ask_a_service_in_the_network_of_its_reader(open_to_shop):
    answer = preflight(open_to_shop, SHOP, **{"Access-Control-Request-Private-Network": "true"})
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize(
    ("origins", "request_headers", "allowed"),
    [
        (("*",), {"Origin": OTHER}, "*"),
        ((SHOP,), {"origin": SHOP}, SHOP),
        ((SHOP,), {"Origin": OTHER}, None),
        ((SHOP,), {}, None),
        ((), {"Origin": SHOP}, None),
    ],
)
def test_headers_for_an_answer_that_the_application_does_not_give(origins, request_headers, allowed):
    assert cors_headers(origins, Headers(request_headers)).get("Access-Control-Allow-Origin") == allowed
