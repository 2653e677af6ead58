"""Files of the package: whole, in pieces, for clients that read slowly or not at all."""

from __future__ import annotations

from importlib.resources import files

import pytest

BUNDLE = "swagger-ui-bundle.js"  # longer than a piece
PATH = f"/docs/assets/{BUNDLE}"


@pytest.fixture(scope="module")
def content() -> bytes:
    return (files("fastapi_offline") / "static" / BUNDLE).read_bytes()


def test_a_file_of_many_pieces_arrives_whole(client, content):
    answer = client.get(PATH)
    assert answer.content == content
    assert int(answer.headers["Content-Length"]) == len(content)


def test_an_unchanged_file_is_not_sent_again(client):
    first = client.get(PATH)
    again = client.get(PATH, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_part_of_a_file_is_not_offered_and_not_sent(client, content):
    answer = client.get(PATH, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (200, content)
    assert "Accept-Ranges" not in answer.headers
