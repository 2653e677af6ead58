"""The host names that the service answers for."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.errors import Code, ServiceError
from service.web.hosts import AllowedHosts

LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "127.0.0.1",
    "127.8.9.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.nip.example",
    "10.0.0.7",
    "[2001:db8::1]",
]


def is_accepted(host: str, allowed: tuple[str, ...] = (), server: str | None = "127.0.0.1") -> bool:
    scope = {
        "type": "http",
        "http_version": "1.1",
        "headers": [(b"host", host.encode())],
        "server": None if server is None else (server, 8000),
    }
    try:
        AllowedHosts(allowed).check(scope)
    except ServiceError as error:
        return error.code is not Code.BAD_HOST
    return True


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("port", ["", ":8000"])
def test_over_a_loopback_address_only_loopback_names_are_accepted(server, port):
    assert [host for host in LOOPBACK if not is_accepted(host + port, server=server)] == []
    assert [host for host in FOREIGN if is_accepted(host + port, server=server)] == []


@pytest.mark.parametrize("server", ["10.0.0.7", "2001:db8::1", "testserver", None])
def test_over_other_addresses_every_name_is_accepted_by_default(server):
    assert all(is_accepted(host, server=server) for host in [*LOOPBACK, *FOREIGN])


@pytest.mark.parametrize("server", ["127.0.0.1", "10.0.0.7"])
@pytest.mark.parametrize(
    ("allowed", "host", "accepted"),
    [
        (("shop.example",), "shop.example", True),
        (("shop.example",), "SHOP.example.", True),
        (("Shop.Example",), "shop.example", True),
        (("shop.example",), "a.shop.example", False),
        (("shop.example",), "evilshop.example", False),
        (("*.shop.example",), "a.b.shop.example", True),
        (("*.shop.example",), "shop.example", False),
        (("*.shop.example",), "evilshop.example", False),
        (("10.0.0.7", "[2001:db8::1]"), "[2001:db8::1]", True),
        (("10.0.0.7",), "10.0.0.8", False),
        (("shop.example",), "localhost", True),
        (("*",), "evil.example", True),
    ],
)
def test_allowed_names_hold_on_every_address(server, allowed, host, accepted):
    assert is_accepted(host, allowed, server) is accepted


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/tasks"), ("POST", "/classify"), ("GET", "/"), ("GET", "/metrics"), ("GET", "/v2"), ("GET", "/nowhere")],
)
def test_a_page_that_resolves_to_the_service_gets_no_answer(client, method, path):
    local = TestClient(client.app, base_url="http://127.0.0.1:8000")

    response = local.request(method, path, headers={"Host": "evil.example"})

    assert (response.status_code, response.json()["code"]) == (400, "bad_host")


def test_local_clients_and_probes_are_answered(client):
    local = TestClient(client.app, base_url="http://127.0.0.1:8000")

    assert local.get("/tasks").status_code == 200
    assert local.get("/tasks", headers={"Host": "localhost:1"}).status_code == 200
    assert local.get("/readyz", headers={"Host": "10.0.0.7:8000"}).status_code == 200
