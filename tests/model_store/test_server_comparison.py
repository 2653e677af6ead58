"""The version that a service serves.

Covers model_store.api_key.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from model_store import StoreError
from model_store.server_comparison import RefusedVersion, ServerComparison, compare_with_server


@pytest.fixture
def service() -> Iterator[HTTPServer]:
    """A server that answers every GET with `service.answer`, a status and a body, and records paths and keys."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.paths.append(self.path)
            self.server.keys.append(self.headers["Authorization"])
            status, body = self.server.answer
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths, server.keys = [], []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


PROBLEM = {"code": "version_refused", "detail": "It was refused: sha256.", "request_id": "a1"}


def url_of(service: HTTPServer) -> str:
    return f"http://127.0.0.1:{service.server_port}"


@pytest.mark.parametrize("refused", [None, {"version": 2, "reason": "sha256"}, {"version": None, "reason": "manifest"}])
def test_the_served_version_and_the_refused_one_are_returned(service, refused):
    service.answer = 200, json.dumps({"task": "fruit", "version": 1, "labels": ["apple"], "refused": refused}).encode()

    comparison = compare_with_server(f"{url_of(service)}/", "fruit")

    assert comparison == ServerComparison(version=1, refused=refused and RefusedVersion(**refused))
    assert service.paths == ["/tasks/fruit"]


def test_the_task_is_quoted_in_the_path(service):
    service.answer = 404, b""
    with pytest.raises(StoreError):
        compare_with_server(url_of(service), "../a?b#c")

    assert service.paths == ["/tasks/..%2Fa%3Fb%23c"]


def test_the_detail_of_the_services_problem_is_shown(service):
    service.answer = 503, json.dumps(PROBLEM).encode()

    with pytest.raises(StoreError, match=r"no answer for fruit: 503 version_refused: It was refused: sha256\."):
        compare_with_server(url_of(service), "fruit")


@pytest.mark.parametrize(("status", "names_the_option"), [(401, True), (403, False)])
def test_a_service_that_needs_a_key_gets_it_from_an_option(service, status, names_the_option):
    service.answer = status, json.dumps({**PROBLEM, "code": "unauthorized", "detail": "Send a key."}).encode()

    with pytest.raises(StoreError) as error:
        compare_with_server(url_of(service), "fruit")

    assert str(error.value).endswith("Send a key. Give a key with --api-key-file or MORA_API_KEY") is names_the_option


def test_the_key_is_sent_to_the_service_and_not_to_the_target_of_a_redirect(service):
    service.answer = 200, b'{"version": 1, "refused": null}'
    compare_with_server(url_of(service), "fruit", "shop-key-0123456789")
    assert service.keys == ["Bearer shop-key-0123456789"]

    service.answer = 302, b""
    with pytest.raises(StoreError, match="for fruit: 302 without a code"):
        compare_with_server(url_of(service), "fruit", "shop-key-0123456789")
    assert service.paths == ["/tasks/fruit"] * 2


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"code": 1}', b"\xff"])
def test_an_error_without_problem_details_shows_its_status(service, body):
    service.answer = 502, body

    with pytest.raises(StoreError, match="for fruit: 502 without a code"):
        compare_with_server(url_of(service), "fruit")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"version": 1}', b'{"version": "x", "refused": null}'])
def test_an_answer_of_another_server_is_an_error(service, body):
    service.answer = 200, body

    with pytest.raises(StoreError, match="not as a mora-serve of this version does"):
        compare_with_server(url_of(service), "fruit")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8000", "", "ftp://127.0.0.1", "http:/"])
def test_an_invalid_address_is_refused(url):
    with pytest.raises(StoreError):
        compare_with_server(url, "fruit")


def test_a_refused_connection_is_an_error_of_one_sentence(service):
    url = url_of(service)
    service.shutdown()  # the server thread would keep the port open
    service.server_close()

    with pytest.raises(StoreError, match=r"--url: .* gives no answer: .*refused"):
        compare_with_server(url, "fruit")
