"""Authentication, redirects and broken answers of registries. Credentials reach no other host and no message.

Covers model_store.transfer.http_answers, model_store.transfer.registry_authorization.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from model_store import Store
from model_store.transfer import TransferCount, TransferError, UnreachableError, open_remote, pull, push
from model_store.transfer.http_answers import describe, is_loopback
from model_store.transfer.registry_connection import RegistryConnection
from tests.support.transfer.between import Answer, Between, between
from tests.support.transfer.places import running_registry

USER, PASSWORD = "ann", "pass word of a test"
HTPASSWD = f"{USER}:$2b$05$xyL8k.rYkk6FWKqRL0CHN.4ytqRuA4O5WnJPH7phauKfEnzoE2dau"  # bcrypt of PASSWORD
TOKEN = "token.of-a_test"  # noqa: S105


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """`config(host, **entry)`: what `docker login` keeps."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))

    def write(host: str, **entry: str) -> None:
        (tmp_path / "docker").mkdir(exist_ok=True)
        (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {host: entry}}))

    return write


def basic(password: str = PASSWORD) -> str:
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


def push_to(target: str, store: Store) -> None:
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, "fruit", None, remote, TransferCount())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[str]:
    """A registry that asks for a password."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "htpasswd").write_text(HTPASSWD + "\n")
    with running_registry(folder, f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}") as host:
        yield host


def test_a_registry_with_a_password(guarded, config, store, other, published):
    target = f"oci://{guarded}/models"
    config(guarded, auth=basic())

    push_to(target, store)

    assert pull(target, other.root, plain_http=True) == published


@pytest.mark.parametrize("entry", [{}, {"auth": basic("another password")}, {"identitytoken": "a token"}])
def test_a_refused_password_names_docker_login(guarded, config, other, entry):
    config(guarded, **entry)

    with pytest.raises(
        TransferError, match=rf"{guarded} refuses access to models \(401\); run `docker login {guarded}`"
    ) as no:
        pull(f"oci://{guarded}/models", other.root, plain_http=True)
    assert "another password" not in str(no.value)
    assert basic("another password") not in str(no.value)


def asks_for_token(registry: Between, realm: str, scope: str = "repository:x:pull") -> None:
    """A registry that asks for a token of a realm."""

    def alter(request, answer):
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return answer
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="test",scope="{scope}"'}, b"{}")

    registry.alter = alter


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("entry", [{}, {"auth": basic()}, {"identitytoken": "a refresh token"}])
@pytest.mark.slow
def test_a_token_comes_from_the_realm(proxy, config, store, other, published, repository, entry, field):
    with between("") as realm:
        realm.alter = lambda request, answer: Answer(200, {}, json.dumps({field: TOKEN}).encode())
        asks_for_token(proxy, f"http://{realm.host}/token?a=b")
        config(proxy.host, **entry)
        push_to(f"oci://{proxy.host}/{repository}", store)
        pull(f"oci://{proxy.host}/{repository}", other.root, plain_http=True)

    (first, *_) = realm.requests
    assert first.headers.get("Authorization") == (f"Basic {basic()}" if "auth" in entry else None)
    if "identitytoken" in entry:
        assert b"grant_type=refresh_token" in first.body
        assert b"refresh_token=a+refresh+token" in first.body
    else:
        assert first.path == "/token?a=b&service=test&scope=repository%3Ax%3Apull"
    assert {request.headers.get("Authorization") for request in proxy.requests} <= {None, f"Bearer {TOKEN}"}
    assert other.verify("fruit", 1) == published


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(200, {}, b"{}"), "refuses access"),
        (Answer(200, {}, b"[]"), "refuses access"),
        (Answer(200, {}, b'{"token": 7}'), "refuses access"),
        (Answer(200, {}, b"[" * 60_000), "refuses access"),
        (Answer(200, {}, b'{"token": "a\\r\\nX-Injected: 1"}'), "refuses access"),
        (Answer(403, {}, b'{"token": "x"}'), "refuses access"),
        (Answer(200, {}, b" " * 100_000), "more than 65,536 bytes"),
        (Answer(302, {"Location": "http://127.0.0.1:9/"}, b""), "refuses access"),
        (Answer(503, {}, b""), "answers 503"),
    ],
)
def test_a_realm_without_a_token_is_a_refusal(proxy, other, answer, problem):
    with between("") as realm:
        realm.alter = lambda request, given: answer
        asks_for_token(proxy, f"http://{realm.host}/token")

        with pytest.raises(TransferError, match=problem):
            pull(f"oci://{proxy.host}/models", other.root, plain_http=True)


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Basic",
        "Bearer",
        'Bearer realm=""',
        "Bearer realm=,service=x",
        'Bearer realm="ftp://x/"',
        "Negotiate",
        'Bearer realm="http://["',
        '="",',
    ],
)
def test_a_challenge_that_nothing_answers_is_a_refusal(proxy, other, challenge):
    proxy.alter = lambda request, answer: Answer(401, {"WWW-Authenticate": challenge}, b"")

    with pytest.raises(TransferError, match=r"refuses access|invalid address"):
        pull(f"oci://{proxy.host}/models", other.root, plain_http=True)


def test_a_realm_without_tls_gets_no_password(config, other, tmp_path, proxy):
    connection = RegistryConnection("registry.example", "models", plain_http=False)

    with pytest.raises(TransferError, match="refers to an address without TLS; --plain-http allows this"):
        connection.location(urllib3.HTTPResponse(headers={"Location": f"http://{proxy.host}/"}))
    with pytest.raises(TransferError, match="no Location"):
        connection.location(urllib3.HTTPResponse())


def test_a_redirect_to_another_host_gets_no_credentials(guarded, config, store, other, published):
    config(guarded, auth=basic())
    push_to(f"oci://{guarded}/models", store)
    with between(f"http://{guarded}") as proxy, between("") as elsewhere:
        config(proxy.host, auth=basic())
        elsewhere.alter = lambda request, answer: Answer(200, {}, store.read(blobs[request.path]))
        blobs = {f"/v2/models/blobs/sha256:{blob.sha256}": blob for blob in published.blobs()}

        def redirect(request, answer):
            if request.path in blobs and answer.status == 200:
                return Answer(307, {"Location": f"http://{elsewhere.host}{request.path}"}, b"")
            return answer

        proxy.alter = redirect
        pull(f"oci://{proxy.host}/models", other.root, plain_http=True)

    assert len(elsewhere.requests) == len(blobs)
    assert [one for one in elsewhere.requests if "Authorization" in one.headers] == []
    assert [one for one in proxy.requests if "Authorization" in one.headers] != []
    assert other.verify("fruit", 1) == published


def test_an_upload_to_another_host_gets_no_credentials(guarded, config, store, published):
    with between(f"http://{guarded}") as proxy, between("") as elsewhere:
        config(proxy.host, auth=basic())
        elsewhere.alter = lambda request, answer: Answer(201, {}, b"")
        proxy.alter = lambda request, answer: (
            Answer(202, {"Location": f"http://{elsewhere.host}/upload?state=1"}, b"")
            if request.method == "POST"
            else answer
        )
        with pytest.raises(TransferError, match=r"answers 4.."):  # the registry lacks the blobs
            push_to(f"oci://{proxy.host}/elsewhere", store)

    assert elsewhere.requests[0].path.startswith("/upload?state=1&digest=sha256%3A")
    assert [one for one in elsewhere.requests if "Authorization" in one.headers] == []


@pytest.mark.parametrize("kind", ["Basic realm=x", "Bearer realm="])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_another_host_that_asks_for_a_password_gets_none(guarded, config, store, other, published, kind, method):
    config(guarded, auth=basic())
    repository = f"oci://{guarded}/models-{method.lower()}"
    if method == "GET":
        push_to(repository, store)
    with between(f"http://{guarded}") as proxy, between("") as elsewhere:
        config(proxy.host, auth=basic())
        challenge = f'{kind}"http://{elsewhere.host}/token"' if kind.endswith("=") else kind
        elsewhere.alter = lambda request, answer: Answer(401, {"WWW-Authenticate": challenge}, b"")

        def redirect(request, answer):
            if request.method == "POST" == method or ("/blobs/" in request.path and request.method == method == "GET"):
                return Answer(307, {"Location": f"http://{elsewhere.host}/x"}, b"")
            if request.method == "POST" and method == "PUT" and answer.status == 202:
                answer.headers["Location"] = f"http://{elsewhere.host}/x"
            return answer

        proxy.alter = redirect
        target = repository.replace(guarded, proxy.host)
        with pytest.raises(TransferError, match=rf"127.0.0.1, to which {proxy.host} refers, refuses access \(401\)"):
            pull(target, other.root, plain_http=True) if method == "GET" else push_to(target, store)

    assert elsewhere.requests != []
    assert [one for one in elsewhere.requests if "Authorization" in one.headers or "/token" in one.path] == []


@pytest.mark.parametrize("location", ["/v2/", "ftp://x/", "http://[", "//:x/", "http:///"])
def test_redirects_without_an_end_or_to_nowhere_end(proxy, other, location):
    proxy.alter = lambda request, answer: Answer(302, {"Location": location}, b"")

    with pytest.raises(TransferError, match=r"redirects more than 5 times|refers to an invalid address"):
        pull(f"oci://{proxy.host}/models", other.root, plain_http=True)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (400, b'{"errors": [{"code": "NAME_INVALID", "message": "<script>"}]}', "answers 400 NAME_INVALID to GET"),
        (403, b'{"errors": [{"code": "DENIED"}]}', r"refuses access to models \(403\)"),
        (400, b'{"errors": [{"code": "\\u001b[31m"}]}', "answers 400 to GET"),
        (418, b"\xff" * 10, "answers 418 to GET"),
        (400, b"[" * 60_000, "answers 400 to GET"),
        (304, b"", "redirects to no address|answers 304"),
    ],
)
def test_an_error_says_its_code_and_nothing_of_its_text(proxy, other, status, body, problem):
    proxy.alter = lambda request, answer: Answer(status, {}, body)

    with pytest.raises(TransferError, match=problem) as error:
        pull(f"oci://{proxy.host}/models", other.root, plain_http=True)
    assert "script" not in str(error.value)
    assert "\x1b" not in str(error.value)


class Raw:
    """A server that sends these bytes to each connection and closes it, or waits."""

    def __init__(self, sent: bytes, *, waits: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.sent, self.waits = sent, waits
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(self.sent)
            if self.waits:
                self.connections.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        for one in (self.listener, *self.connections):
            one.close()


@pytest.mark.parametrize(
    ("sent", "waits", "problem"),
    [
        (b"", False, "the connection was closed"),
        (b"", True, "nothing arrived in time"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            False,
            "stops in the middle of an answer: the connection was",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True, "stops in the middle of an answer: nothing arrived"),
        (b"nonsense\r\n\r\n", False, "gives no answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", False, "gives no answer"),
    ],
)
def test_a_broken_or_silent_server_is_one_line(other, monkeypatch, sent, waits, problem):
    monkeypatch.setattr("model_store.transfer.registry_connection._TIMEOUT", urllib3.Timeout(connect=5, read=0.5))
    with closing(Raw(sent, waits=waits)) as server, pytest.raises(UnreachableError, match=problem) as error:
        pull(f"oci://{server.host}/models", other.root, plain_http=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("target", "plain_http", "problem"),
    [
        ("oci://127.0.0.1:9/models", True, "127.0.0.1:9 gives no answer: connection refused"),
        ("oci://gone.invalid/models", False, "gone.invalid gives no answer: the name of the host is unknown"),
    ],
)
def test_a_registry_that_is_not_there_is_named(other, target, plain_http, problem):
    with pytest.raises(UnreachableError, match=problem):
        pull(target, other.root, plain_http=plain_http)


def test_a_registry_without_tls_names_the_flag(registry, other):
    with pytest.raises(UnreachableError, match="no TLS; --plain-http is for a registry without TLS"):
        pull(f"oci://{registry}/models", other.root)


def test_a_registry_with_a_certificate(store, other, published, tmp_path, monkeypatch):
    certificate, key = make_certificate(tmp_path)
    with running_registry(tmp_path / "tls", http=f", tls: {{certificate: {certificate}, key: {key}}}") as host:
        with pytest.raises(UnreachableError, match=f"{host} gives no answer: its certificate is not trusted"):
            pull(f"oci://{host}/models", other.root)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with closing(open_remote(f"oci://{host}/models")) as remote:
            push(store, "fruit", None, remote, TransferCount())

        assert pull(f"oci://{host}/models", other.root) == published


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nothing trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a registry of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "certificate.pem", folder / "key.pem"


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    registry, store, other, published, repository, monkeypatch
):
    with between("") as proxy:
        proxy.alter = lambda request, answer: Answer(418, {}, b"")
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.setenv("no_proxy", "another.example")
        with pytest.raises(TransferError, match="answers 418"):
            pull("oci://registry.example/models", other.root, plain_http=True)
        push_to(f"oci://{registry}/{repository}", store)
        with pytest.raises(UnreachableError, match="connection refused"):
            pull("oci://localhost:9/models", other.root, plain_http=True)

    assert [request.path for request in proxy.requests] == ["http://registry.example/v2/models/manifests/latest"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("a.b", False),
        ("", False),
    ],
)
def test_this_machine(host, expected):
    assert is_loopback(host) == expected


def test_an_unknown_error_is_named_by_its_kind_alone():
    assert describe(ValueError("https://user:password@host/?signature=x")) == "ValueError"
