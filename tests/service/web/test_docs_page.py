"""The documentation of the API: its files and what a browser may do with it."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest


@pytest.fixture
def page(client):
    return client.get("/docs")


def test_the_documentation_page_loads_files_of_the_service_only(client, page):
    assert "://" not in page.text
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(f"/{link}").status_code == 200, link


def test_only_scripts_of_the_service_run_on_the_page(page):
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    (inline,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert 'validatorUrl": null' in inline


@pytest.mark.parametrize(
    "path",
    ["/docs", "/docs/assets/swagger-ui.css", "/docs/assets/nothing", "/openapi.json", "/tasks", "/livez", "/", "/none"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_browser_guesses_the_type_of_an_answer(client, path, method):
    response = client.request(method, path)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
