"""Push to and pull from a server of the hub's HTTP form, with the hub's own client.

Covers model_store.transfer.store_layout.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest.mock import MagicMock

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants

from model_store import Store, StoreError, publish, sign
from model_store.publishing import attach
from model_store.transfer import TransferCount, TransferError, UnreachableError, open_remote, pull, push
from tests.support.transfer.hub import HubServer, running_hub

TARGET = "hf://shop/models"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # by the library, of its own call


def use(monkeypatch, address: str) -> None:
    """What HF_ENDPOINT does, which is read when the library is loaded."""
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", address)


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as server:
        use(monkeypatch, f"http://{server.host}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secretofatest")
        yield server
        huggingface_hub.close_session()


def push_to(target: str, store: Store, task: str = "fruit") -> int:
    count = TransferCount()
    with closing(open_remote(target)) as remote:
        push(store, task, None, remote, count)
    return count.moved_bytes


def test_a_version_arrives_as_it_was_published(hub, store, other, published, keys):
    sign(store, "fruit", None, keys.private)
    push_to(TARGET, store)

    manifest = pull(TARGET, other.root, activate=True, trusted=keys.trusted)

    assert hub.commits == 1
    assert manifest == published == Store(other.root, keys.trusted).verify("fruit")
    assert other.signature("fruit", 1) == store.signature("fruit", 1)


def test_the_repository_is_a_store(hub, store, published, tmp_path):
    push_to(TARGET, store)

    for name, content in hub.files.items():
        path = tmp_path / "written" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    assert Store(tmp_path / "written").verify("fruit") == published


def test_only_missing_blobs_are_sent(hub, store, draft):
    first = publish(store, *draft())
    push_to(TARGET, store)
    second = publish(store, *draft("tags"))

    assert push_to(TARGET, store, "tags") == sum(blob.size for blob in {*second.blobs()} - {*first.blobs()})
    assert push_to(TARGET, store, "tags") == 0


def test_one_of_several_tasks_is_named(hub, store, other, draft):
    for task in ("fruit", "tags"):
        publish(store, *draft(task))
        push_to(TARGET, store, task)

    with pytest.raises(TransferError, match=f"holds 2 tasks .fruit, tags.; name one of them: {TARGET}:TASK"):
        pull(TARGET, other.root)
    assert pull(f"{TARGET}:tags", other.root).task == "tags"
    with pytest.raises(TransferError, match="is for the task tags"):
        push_to(f"{TARGET}:tags", store, "fruit")


def test_another_version_of_the_same_number_stays(hub, store, other, draft):
    publish(store, *draft())
    publish(other, *draft(tail="another"))
    push_to(TARGET, store)
    before = dict(hub.files)

    with pytest.raises(TransferError, match="has another version 1 of fruit, which stays as it is"):
        push_to(TARGET, other)
    assert hub.files == before


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tasks/fruit/live", b"../../1", "does not hold a version number"),
        ("tasks/fruit/live", b"9" * 40, "more than 32 bytes"),
        ("tasks/fruit/live", b"2", "tasks/fruit/2/manifest.json is missing"),
        ("tasks/fruit/withdrawn", b"", "is withdrawn at"),
        ("tasks/fruit/1/manifest.json", b"{}", "is not a valid manifest"),
        ("tasks/fruit/1/manifest.json", b" " * 5_000_000, "more than 4,194,304 bytes"),
        ("tasks/fruit/1/manifest.sig", b"x" * 65, "more than 64 bytes"),
    ],
)
@pytest.mark.slow
def test_a_repository_with_a_fault_is_refused(hub, store, other, published, name, content, problem):
    push_to(TARGET, store)
    hub.files[name] = content

    with pytest.raises(StoreError, match=problem):
        pull(TARGET, other.root)
    assert not other.root.exists()


def test_a_manifest_of_another_task_is_refused(hub, store, other, draft):
    for task in ("fruit", "tags"):
        publish(store, *draft(task))
        push_to(TARGET, store, task)
    hub.files["tasks/fruit/1/manifest.json"] = hub.files["tasks/tags/1/manifest.json"]

    with pytest.raises(TransferError, match="is of the task tags, not of fruit"):
        pull(f"{TARGET}:fruit", other.root)


def test_what_does_not_exist_is_named(hub, other, store, published):
    with pytest.raises(StoreError, match="points to no version"):
        pull(TARGET, other.root)
    hub.repository = "shop/another"
    with pytest.raises(TransferError, match="does not exist, or is hidden from this token; create it on the hub"):
        pull(TARGET, other.root)
    with pytest.raises(TransferError, match="does not exist, or is hidden"):
        push_to(TARGET, store)


def test_a_refused_token_appears_in_no_message(hub, other):
    hub.token = "hf_another"  # noqa: S105

    with pytest.raises(TransferError, match="HF_TOKEN") as refused:
        pull(TARGET, other.root)
    assert "hf_secretofatest" not in str(refused.value)
    assert "a message of the hub" not in str(refused.value)


def test_the_token_goes_to_no_other_host(hub: HubServer, store, other, published):
    hub.token = "hf_secretofatest"  # noqa: S105
    push_to(TARGET, store)
    with running_hub() as elsewhere:
        elsewhere.files = hub.files

        def redirect(request, answer):
            given = hub.answer(request, answer)
            if given.status == 200 and "/blobs/" in request.path and request.method == "GET":
                given.status, given.headers["Location"] = 302, f"http://{elsewhere.host}{request.path}"
            return given

        hub.server.alter = redirect
        assert pull(TARGET, other.root) == published

        assert len(elsewhere.requests) == len(published.blobs())
        assert [request for request in elsewhere.requests if "hf_secret" in str(request.headers)] == []


def test_an_offline_client_says_so(hub, other, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(TransferError, match="because HF_HUB_OFFLINE is set; unset it"):
        pull(TARGET, other.root)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "the name of the host is unknown"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (httpx2.ReadTimeout("slow"), "nothing arrived in time"),
        (httpx2.RemoteProtocolError("closed"), "the connection was closed before the end"),
    ],
)
def test_the_cause_of_a_failed_connection_is_in_words(hub, other, monkeypatch, cause, words):
    def fail(*_, **__):
        raise httpx2.ConnectError("https://secret.example") from cause

    monkeypatch.setattr("huggingface_hub.get_session", lambda: MagicMock(stream=fail))

    with pytest.raises(UnreachableError, match=f"{TARGET} gives no whole answer: {words}$"):
        pull(TARGET, other.root)


def test_a_hub_without_an_answer_is_named(hub, other, monkeypatch):
    use(monkeypatch, "http://127.0.0.1:9")

    with pytest.raises(UnreachableError, match=f"{TARGET} gives no whole answer: connection refused"):
        pull(TARGET, other.root)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'[{"type": "directory"}]', b"\xff", b" " * 2_000_000])
def test_a_broken_list_of_tasks_is_one_line(hub, other, content):
    hub.server.alter = lambda request, answer: answer.with_body(content, 200)

    with pytest.raises(TransferError, match=r"does not answer like the hub|has more than 1,048,576 bytes"):
        pull(TARGET, other.root)


@pytest.mark.parametrize("status", [403, 404, 429, 500, 507])
@pytest.mark.parametrize("at", ["/preupload/", "/objects/batch", "/upload/", "/commit/"])
@pytest.mark.slow
def test_a_refused_upload_is_one_line(hub, store, published, at, status, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)

    def refuse(request, answer):
        return (
            answer.with_body(b'{"error": "a message of the hub"}', status)
            if at in request.path
            else hub.answer(request, answer)
        )

    hub.server.alter = refuse

    with pytest.raises(TransferError, match=TARGET) as refused:
        push_to(TARGET, store)
    assert "\n" not in str(refused.value)
    assert "a message of the hub" not in str(refused.value)
    assert hub.files == {}


@pytest.mark.parametrize("answer", [b"[" * 100_000, b"{}", b'{"files": 1}', b"not JSON"])
def test_a_broken_answer_to_an_upload_is_one_line(hub, store, published, answer):
    hub.server.alter = lambda request, given: (
        given.with_body(answer, 200) if "/preupload/" in request.path else hub.answer(request, given)
    )

    with pytest.raises(TransferError, match=f"{TARGET} does not take the upload|did not take a large file"):
        push_to(TARGET, store)


@pytest.mark.slow
def test_the_commands_read_the_variables_of_the_hub(hub, store, published, tmp_path):
    hub.token = "hf_secretofatest"  # noqa: S105
    variables = {
        **os.environ,
        "HF_ENDPOINT": f"http://{hub.host}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
    }
    said = []
    for arguments in (
        ["push", "fruit", TARGET, "--store", str(store.root)],
        ["pull", TARGET, "--store", str(tmp_path / "b")],
    ):
        command = [sys.executable, "-m", "model_store", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=variables, cwd=Path(__file__).parents[3], check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)

    assert said[0].startswith(f"fruit: {TARGET} points to version 1 (")
    assert Store(tmp_path / "b").verify("fruit", 1) == published


def test_a_signature_in_the_openssf_format_travels(hub, store, other, published):
    attach(store, "fruit", None, "model.sig", lambda manifest, content: b'{"a": "bundle"}')
    push_to(TARGET, store)

    pull(str(TARGET), other.root)

    assert other.openssf_signature("fruit", 1) == b'{"a": "bundle"}'
