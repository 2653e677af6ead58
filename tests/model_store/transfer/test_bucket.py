"""Push to and pull from a server that speaks Amazon S3's protocol."""

from __future__ import annotations

from contextlib import closing

import pytest
from obstore.exceptions import GenericError

from model_store import Store, publish, sign
from model_store.publishing import attach
from model_store.transfer import TransferCount, TransferError, UnreachableError, open_remote, pull, push
from tests.support.transfer.between import Between, between
from tests.support.transfer.places import S3_VARIABLES, running_s3


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_s3(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def bucket(server, monkeypatch):
    """A server in front of the bucket's; the variables name it."""
    with between(server) as proxy:
        for name, value in {**S3_VARIABLES, "AWS_ENDPOINT_URL": f"http://{proxy.host}"}.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def target(repository):
    return f"s3://models/{repository}"


def push_to(target: str, store: Store, task: str = "fruit") -> int:
    count = TransferCount()
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, task, None, remote, count)
    return count.moved_bytes


def test_a_version_arrives_as_it_was_published(bucket, target, store, other, published, keys):
    sign(store, "fruit", None, keys.private)
    push_to(target, store)

    manifest = pull(target, other.root, activate=True, trusted=keys.trusted, plain_http=True)

    assert manifest == published == Store(other.root, keys.trusted).verify("fruit")
    assert other.signature("fruit", 1) == store.signature("fruit", 1)


def test_only_missing_blobs_are_sent_and_one_of_two_tasks_is_named(bucket, target, store, other, draft):
    first = publish(store, *draft())
    push_to(target, store)
    second = publish(store, *draft("tags"))

    assert push_to(target, store, "tags") == sum(blob.size for blob in {*second.blobs()} - {*first.blobs()})
    assert push_to(target, store, "tags") == 0
    with pytest.raises(TransferError, match=r"holds 2 tasks .fruit, tags.; name one of them"):
        pull(target, other.root, plain_http=True)
    assert pull(f"{target}:tags", other.root, plain_http=True) == second


def test_live_is_written_last_and_another_version_of_the_number_stays(bucket, target, store, other, draft):
    publish(store, *draft())
    publish(other, *draft(tail="another"))
    push_to(target, store)

    written = [request.path for request in bucket.requests if request.method == "PUT"]
    assert [path.partition("/tasks/")[2] for path in written[-3:]] == [
        "fruit/1/manifest.sha256",
        "fruit/1/manifest.json",
        "fruit/live",
    ]
    with pytest.raises(TransferError, match="has another version 1 of fruit, which stays as it is"):
        push_to(target, other)
    assert len([request for request in bucket.requests if request.method == "PUT"]) == len(written)


def answers(status: int, code: str):
    body = f"<Error><Code>{code}</Code><Message>{S3_VARIABLES['AWS_ACCESS_KEY_ID']}</Message></Error>".encode()
    return lambda request, answer: answer.with_body(body, status)


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (403, "AccessDenied", "refuses access; set AWS_ACCESS_KEY_ID"),
        (401, "Unauthorized", "refuses access; set AWS_ACCESS_KEY_ID"),
        (500, "InternalError", "gives no whole answer: it answers 500"),
    ],
)
def test_an_error_of_the_server_is_one_line_without_its_text(bucket: Between, target, other, status, code, problem):
    bucket.alter = answers(status, code)

    with pytest.raises(TransferError, match=problem) as refused:
        pull(f"{target}:fruit", other.root, plain_http=True)
    assert "\n" not in str(refused.value)
    assert S3_VARIABLES["AWS_ACCESS_KEY_ID"] not in str(refused.value)


def test_a_bucket_that_does_not_exist_is_named(bucket, store, published):
    with pytest.raises(TransferError, match="the bucket does not exist; create it"):
        push_to("s3://gone/prefix", store)


def test_an_address_without_tls_needs_the_flag_and_a_closed_port_is_named(bucket, target, other, monkeypatch):
    with pytest.raises(UnreachableError, match="its address has no TLS; --plain-http allows this"):
        pull(target, other.root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="connection refused"):
        pull(target, other.root, plain_http=True)


@pytest.mark.parametrize("change", [lambda body: body[:-1] + b"?", lambda body: body + b"x", lambda body: body[:-1]])
@pytest.mark.slow
def test_another_content_of_a_blob_never_becomes_visible(bucket, target, store, other, published, change, no_waits):
    push_to(target, store)
    head = published.head.sha256
    bucket.alter = lambda request, answer: (
        answer.with_body(change(answer.body)) if head in request.path and request.method == "GET" else answer
    )

    with pytest.raises(TransferError, match=f"blob {head}"):
        pull(target, other.root, plain_http=True)
    assert not (other.root / "tasks").exists()


def test_a_pull_goes_on_where_an_earlier_one_ended(bucket, target, store, other, published):
    push_to(target, store)
    (other.root / ".incoming").mkdir(parents=True)
    (other.root / ".incoming" / published.head.sha256).write_bytes(store.read(published.head)[:5])

    pull(target, other.root, plain_http=True)

    (request,) = [one for one in bucket.requests if published.head.sha256 in one.path and one.method == "GET"]
    assert request.headers["Range"] == "bytes=5-"
    assert other.verify("fruit", 1) == published


def test_a_missing_account_names_the_variables(monkeypatch, other):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(TransferError, match="az://shop/models cannot be opened; set AZURE_STORAGE_ACCOUNT_NAME"):
        pull("az://shop/models", other.root)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("Error performing PUT http://169.254.169.254/latest/api/token", "needs credentials; set AWS_ACCESS_KEY_ID"),
        ("Error performing GET https://host/?signature=secret: dns error", "the name of the host is unknown"),
        ("kind: Timeout, https://host/?signature=secret", "nothing arrived in time"),
        ("invalid peer certificate: UnknownIssuer", "its certificate is not trusted"),
        ("a new kind of error: secret", "the connection ended"),
    ],
)
def test_an_error_of_the_library_is_told_by_its_kind(other, monkeypatch, message, problem):
    def fail(*arguments: object) -> None:
        raise GenericError(message)

    monkeypatch.setattr("obstore.list_with_delimiter", fail)

    with pytest.raises(TransferError, match=problem) as told:
        pull("s3://models", other.root)
    assert "secret" not in str(told.value)


def test_a_signature_in_the_openssf_format_travels(bucket, target, store, other, published):
    attach(store, "fruit", None, "model.sig", lambda manifest, content: b'{"a": "bundle"}')
    push_to(target, store)

    pull(str(target), other.root, plain_http=True)

    assert other.openssf_signature("fruit", 1) == b'{"a": "bundle"}'
