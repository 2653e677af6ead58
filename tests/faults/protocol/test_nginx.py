"""The configuration of the proxy in docker/nginx.conf, with a real nginx and in place of replicas what a test needs."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.errors import Code
from tests.support.faults.proxy import free_ports, running_nginx
from tests.support.sampling import each

CONFIGURATION = (Path(__file__).parents[3] / "docker" / "nginx.conf").read_text()
ITEM = b'{"text": "a red apple"}'
POST = b"POST /classify HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
WHOLE = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(ITEM) + ITEM


def adapted(folder: Path, port: int, replica: int) -> str:
    """The configuration for this machine: another port, temporary files in `folder`, a replica on loopback."""
    changes = [
        (r"/tmp/", f"{folder}/"),  # noqa: S108
        (r"nginx\.pid", "pid"),
        (r"error_log stderr", f"daemon off; error_log {folder}/error.log"),
        (r"listen 8080", f"listen 127.0.0.1:{port}"),
        (r"resolver .*", ""),
        (r"http://\$replicas:8000", f"http://127.0.0.1:{replica}"),
        (r"proxy_read_timeout 30s", "proxy_read_timeout 1s"),
    ]
    text = CONFIGURATION
    for pattern, replacement in changes:
        text, number = re.subn(pattern, replacement, text)
        assert number, pattern
    return text


@contextmanager
def running_proxy(folder: Path, replica: int) -> Iterator[int]:
    (port,) = free_ports(1)
    with running_nginx(folder, adapted(folder, port, replica)):
        yield port


@pytest.fixture
def proxy(tmp_path) -> Iterator[Callable[[int], int]]:
    """`proxy(port)`: the port of a proxy in front of the replica at `port`."""
    with ExitStack() as stack:
        yield lambda replica: stack.enter_context(running_proxy(tmp_path, replica))


def talk(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to the bytes of a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(data)
        received = b""
        while piece := client.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}, body


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a replica that takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


REFUSED = {
    "no replica": (WHOLE, 502, "no_replica"),
    "no replica, Open Inference": (WHOLE.replace(b"/classify", b"/v2/models/fruit/infer"), 502, "no_replica"),
    "a large body": (POST + b"Content-Length: 99000000\r\nConnection: close\r\n\r\n", 413, "body_too_large"),
    "no HTTP": (b"\x16\x03\x01\r\n\r\n", 400, "bad_http"),
    "no host": (b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "bad_http"),
    "an empty host": (b"GET /livez HTTP/1.0\r\nHost:\r\n\r\n", 400, "bad_http"),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", 400, "bad_http"),
    "another coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "bad_http"),
    "a long path": (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 40_000), 414, "headers_too_large"),
    "a long header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"a" * 40_000), 431, "headers_too_large"),
    "a method to trace": (b"TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405, "method_not_allowed"),
}


@pytest.mark.parametrize(
    ("path", "more", "expected", "code", "kind"),
    [
        (b"/v1/moderations", b"Content-Length: 2\r\n\r\n{}", 502, "no_replica", "server_error"),
        (b"/v1/embeddings?x=1", b"Content-Length: 2\r\n\r\n{}", 502, "no_replica", "server_error"),
        (b"/v1/embeddings", b"Content-Length: 99000000\r\n\r\n", 413, "body_too_large", "invalid_request_error"),
        (b"/v1", b"Transfer-Encoding: gzip\r\n\r\n", 501, "bad_http", "server_error"),
    ],
)
@pytest.mark.slow
def test_an_error_of_the_proxy_has_the_form_that_openais_clients_read(proxy, path, more, expected, code, kind):
    head = POST.replace(b"/classify", path) + b"Connection: close\r\n"
    status, headers, body = talk(proxy(free_ports(1)[0]), head + more)

    assert (status, headers["content-type"]) == (expected, "application/json")
    error = json.loads(body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == (kind, None, code)
    assert ("retry-after" in headers) == (status == 502)
    assert headers["x-request-id"]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.slow
def test_an_error_of_the_proxy_is_a_problem_document(proxy, name):
    data, expected, code = REFUSED[name]
    status, headers, body = talk(proxy(free_ports(1)[0]), data)
    assert_problem((status, headers, body), expected, code)
    assert ("error" in json.loads(body)) == (b"/v2/" in data)


def assert_problem(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    got, headers, body = answer
    problem = json.loads(body)
    assert (got, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:mora:problem:{code}"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert ("retry-after" in headers) == (status in (502, 503, 504))
    assert problem["title"] == (Code(code).problem_title if code in list(Code) else "No replica of the service answers")


def test_a_replica_that_does_not_answer_is_a_problem_document(proxy, silent):
    assert_problem(talk(proxy(silent), WHOLE), 504, "deadline")


@pytest.mark.parametrize("ours", ["order-7", 'a","code":"forged', "a" * 200, "\x7f"])
def test_only_a_safe_request_id_is_repeated(proxy, ours):
    request = WHOLE.replace(b"Host: shop", b"Host: shop\r\nX-Request-ID: " + ours.encode())
    status, headers, body = talk(proxy(free_ports(1)[0]), request)
    assert status == 502
    assert (json.loads(body)["request_id"] == ours) == (ours == "order-7")
    assert re.fullmatch(r"order-7|[0-9a-f]{32}", headers["x-request-id"])


@pytest.mark.parametrize("host", [b"", b"Host: shop.example\r\n", b"Host: [::1]:8080\r\n"])
@pytest.mark.parametrize("allowed", each(["*", "shop.example"], tried=["shop.example"]))
@pytest.mark.slow
def test_http_1_0_is_answered_with_and_without_a_host(proxy, shelf, server, host, allowed):
    shelf.publish("fruit")
    port = proxy(server(shelf.store, allowed_hosts=allowed).port)
    for head in (b"GET /livez", b"GET /tasks"):
        status, headers, _ = talk(port, head + b" HTTP/1.0\r\n" + host + b"\r\n")
        assert status == 200, head
        assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("size", each([20_000_001, 21_000_000], tried=[20_000_001]))  # nginx lets both through
def test_the_services_own_errors_pass_through(proxy, shelf, server, size):
    shelf.publish("fruit")
    port = proxy(server(shelf.store).port)
    head = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size
    status, _, body = talk(port, head + b" " * size)
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")
    assert json.loads(body)["title"] == Code.BODY_TOO_LARGE.problem_title
