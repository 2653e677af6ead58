"""The playground's files and their headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import service
from model_store.items.formats import FORMATS, PictureFormat
from service.web.page import page_paths

FOLDER = Path(service.__file__).parent / "playground"
PATHS = sorted(page_paths())


def test_every_file_of_the_page_is_sent_as_it_is(client):
    sent = {"playground/index.html" if path == "/" else path[1:]: client.get(path).content for path in PATHS}
    assert sent == {f"playground/{file.name}": file.read_bytes() for file in FOLDER.iterdir()}


def test_the_page_links_only_to_existing_files_of_the_service(client):
    asked = re.findall(r'(?:src|href)="([^"#]+)"', client.get("/").text)
    for path in PATHS[1:]:
        asked += [f"playground/{name}" for name in re.findall(r'from "\./([^"]+)"', client.get(path).text)]
    assert len(set(asked)) > 10
    assert [link for link in asked if link.startswith(("/", "http"))] == [], "behind a prefix that would lead elsewhere"
    assert [link for link in asked if client.get(f"/{link}").status_code != 200] == []


@pytest.mark.parametrize("path", PATHS)
def test_every_file_has_the_security_headers(client, path):
    response = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert "script-src" not in policy
    assert "style-src" not in policy
    assert policy["trusted-types"] == "'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    kind = path.rpartition(".")[2]
    expected = {"/": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[kind]
    assert response.headers["Content-Type"].split(";")[0] == expected


def test_a_file_in_the_browsers_cache_is_not_sent_again(client):
    first = client.get("/")
    again = client.get("/", headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200
    assert first.headers["Cache-Control"] == "no-cache"


def test_the_page_offers_every_format_of_pictures(client):
    page = client.get("/").text

    assert FORMATS in page
    every_format = ",".join(each.media_type for each in PictureFormat)
    assert re.findall(r'accept="([^"*]+)"', page) == [every_format] * 2, "of the item, and of the catalogue"


def test_no_script_makes_markup_of_a_string():
    scripts = "".join(file.read_text() for file in FOLDER.glob("*.js"))
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Storage|cookie", scripts) == []
