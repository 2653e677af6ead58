"""The service behind a path prefix, which the proxy keeps or removes."""

from __future__ import annotations

import json
import re
from urllib.parse import urljoin

import pytest

from service.settings import Settings
from service.web.app import create_app
from service.web.keys import key_line

KEY = {"Authorization": "Bearer shop-key-0123456789"}
ITEM = {"task": "fruit", "text": "a red apple"}


@pytest.fixture(params=["/mora", "/a/b", "/v2.1"])
def prefix(request):
    return request.param


@pytest.fixture
def behind(shelf, serve, prefix):
    shelf.publish("fruit")
    return serve(shelf.store, root_path=prefix)


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "removed"])
@pytest.mark.slow
def test_every_kind_of_path_answers_with_and_without_the_prefix(behind, prefix, is_kept):
    base = prefix if is_kept else ""
    paths = ["/", "/tasks", "/tasks/fruit", "/livez", "/metrics", "/docs", "/docs/assets/swagger-ui.css", "/v2"]
    for path in [*paths, "/v2/models/fruit", "/openapi.json", "/playground/page.js"]:
        assert behind.get(base + path).status_code == 200, path
        assert behind.head(base + path).status_code == 200, path
    assert behind.post(f"{base}/classify", json=ITEM).status_code == 200
    assert "error" in behind.get(f"{base}/v2/models/nothing").json()
    assert list(behind.get(f"{base}/v1/models").json()) == ["error"]
    assert "error" not in behind.get(f"{base}/nothing").json()


def test_all_links_stay_behind_the_prefix(behind, prefix):
    """Of both pages, as a browser follows them."""
    documentation = behind.get(f"{prefix}/docs").text
    links = re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", documentation)
    addresses = [urljoin(f"{prefix}/docs", first or second) for first, second in links]
    page = behind.get(f"{prefix}/").text
    addresses += [urljoin(f"{prefix}/", link) for link in re.findall(r'(?:src|href)="([^"#]+)"', page)]
    assert f"{prefix}/openapi.json" in addresses
    assert [address for address in addresses if not address.startswith(f"{prefix}/")] == []
    assert [address for address in addresses if behind.get(address).status_code != 200] == []


def test_the_openapi_document_names_the_prefix(behind, prefix, client):
    for path in ("/openapi.json", f"{prefix}/openapi.json"):
        assert behind.get(path).json()["servers"] == [{"url": prefix}]
    assert "servers" not in client.get("/openapi.json").json()


def test_the_prefix_alone_leads_to_the_page(behind, prefix):
    answer = behind.get(prefix, follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, f"{prefix}/")
    assert behind.get(prefix).text == behind.get("/").text


@pytest.mark.parametrize(
    "path", ["/morality/tasks", "/mora/mora/tasks", "/mora//tasks", "/MORA/tasks", "/x/mora/tasks"]
)
def test_another_path_is_not_found(shelf, serve, path):
    shelf.publish("fruit")
    answer = serve(shelf.store, root_path="/mora").get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "prefix", ["/v1", "/v2", "/tasks", "/docs", "/v2/models", "/tasks/fruit", "/classify/x", "/livez"]
)
def test_a_prefix_that_could_be_a_path_of_the_service_is_an_error(shelf, prefix):
    with pytest.raises(ValueError, match=r"MORA_ROOT_PATH\): /\w+ is a path of the service; choose another prefix"):
        create_app(Settings(store=shelf.store.root, root_path=prefix))


@pytest.fixture
def locked(shelf, serve, tmp_path):
    shelf.publish("fruit")
    (tmp_path / "keys").write_text(key_line("shop", KEY["Authorization"].removeprefix("Bearer ")))
    return serve(shelf.store, root_path="/mora", api_keys_file=tmp_path / "keys")


def test_keys_probes_and_the_log_know_the_path_without_the_prefix(locked, events):
    for path in ("/livez", "/readyz", "/", "/playground/page.js"):
        assert locked.get(f"/mora{path}").status_code == 200
    for path in (
        "/mora/tasks",
        "/mora/docs",
        "/mora/metrics",
        "/mora/nothing",
        "/mora/livez/../tasks",
        "/mora/mora/livez",
    ):
        assert locked.get(path).status_code == 401
    assert locked.get("/mora/tasks", headers=KEY).status_code == 200
    routes = [line["route"] for line in events if line["event"] == "request" and line["status"] == 200]
    assert routes == ["/", "/playground/{name}", "/tasks"], "and no probe"


@pytest.mark.parametrize("name", ["X-Forwarded-Prefix", "X-Original-URL", "X-Script-Name"])
def test_a_header_of_the_client_changes_no_address(locked, client, name):
    for service in (locked, client):
        answer = service.get("/openapi.json", headers={**KEY, name: "/evil"})
        assert "evil" not in json.dumps(answer.json()) + str(answer.headers)
