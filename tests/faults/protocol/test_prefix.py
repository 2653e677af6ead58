"""The service behind nginx under a path prefix, which nginx keeps or removes."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from service.client import Client
from tests.support.faults.asking import get
from tests.support.faults.proxy import nginx

WAYS = {"kept": "", "removed": "rewrite ^/mora/(.*)$ /$1 break; rewrite ^/mora$ / break;"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow
def test_pages_documents_and_clients_work_behind_a_prefix(shelf, server, tmp_path, way):
    shelf.publish("fruit")
    running = server(shelf.store, root_path="/mora")
    with nginx(tmp_path / "nginx", [running.port], WAYS[way]) as port:
        base = f"http://127.0.0.1:{port}"
        pages = {path: get(base, path) for path in ("/mora/", "/mora/docs")}
        for path, page in pages.items():
            links = re.findall(r"(?:src|href)=\"([^\"#]+)\"|url: '([^']+)'", page.body.decode())
            addresses = [urljoin(path, first or second) for first, second in links]
            assert len(addresses) >= 4
            assert {address: get(base, address).status for address in addresses} == dict.fromkeys(addresses, 200)
        (listed,) = get(base, "/mora/openapi.json").json["servers"]
        with Client(base + listed["url"]) as client:
            assert client.classify(text="a red apple", task="fruit").task == "fruit"
            assert [task.task for task in client.tasks().tasks] == ["fruit"]
