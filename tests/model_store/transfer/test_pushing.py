"""What a push checks before it sends anything."""

from __future__ import annotations

from contextlib import closing

import pytest
import urllib3

from model_store import NotFoundError, StoreError, publish, sign, withdraw
from model_store.transfer import TransferCount, TransferError, open_remote, push


@pytest.fixture
def send(registry, repository):
    """`send(store, task, version)`: push to one tag; returns the version that it points to then."""

    def send(store, task="fruit", version=None) -> int:
        with closing(open_remote(f"oci://{registry}/{repository}:tag", plain_http=True)) as remote:
            return push(store, task, version, remote, TransferCount()).version

    return send


def test_without_a_version_the_live_one_is_pushed(store, draft, send):
    publish(store, *draft())
    publish(store, *draft(tail="second"), make_live=False)

    assert send(store) == 1
    assert send(store, version=2) == 2
    assert send(store) == 1, "a fleet can go back"


@pytest.mark.parametrize(
    ("task", "version", "problem"),
    [
        ("fruit", None, "task fruit has no live version; run `mora-store activate fruit VERSION"),
        ("fruit", 7, "task fruit has no version 7; it has 1"),
        ("gone", None, "no task gone"),
        ("../gone", None, "a task name has up to 63"),
    ],
)
def test_what_does_not_exist_is_named(store, draft, send, task, version, problem):
    publish(store, *draft())
    withdraw(store, "fruit")

    with pytest.raises(NotFoundError, match=problem):
        send(store, task, version)


def test_a_tag_of_another_task_stays(store, draft, send):
    publish(store, *draft())
    publish(store, *draft("tags"))
    send(store)

    with pytest.raises(TransferError, match="points to a version of fruit; choose another tag"):
        send(store, "tags")
    assert send(store) == 1


def test_another_version_of_the_same_number_stays(store, other, draft, send):
    publish(store, *draft())
    publish(other, *draft(tail="another"))
    send(store)

    with pytest.raises(TransferError, match="has another version 1 of fruit, which stays as it is; publish it again"):
        send(other)


def test_a_tag_that_holds_no_version_stays(store, published, registry, repository, send, proxy):
    config = b"{}"
    address = f"http://{registry}/v2/{repository}"
    upload = urllib3.request("POST", f"{address}/blobs/uploads/").headers["Location"]
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    urllib3.request("PUT", f"{upload}&digest={digest}", body=config)
    kind = "application/vnd.oci.image.manifest.v1+json"
    described = f'{{"mediaType": "application/json", "digest": "{digest}", "size": 2}}'
    image = f'{{"schemaVersion": 2, "mediaType": "{kind}", "config": {described}, "layers": [{described}]}}'
    urllib3.request("PUT", f"{address}/manifests/tag", body=image, headers={"Content-Type": kind})

    with pytest.raises(TransferError, match="is no version of mora-serve, but another image"):
        send(store)


@pytest.mark.parametrize("damage", [b"x", b"", None], ids=["other bytes", "empty", "missing"])
def test_a_damaged_version_is_not_pushed(store, published, send, damage, other, registry, repository):
    path = store.root / "blobs/sha256" / published.head.sha256
    path.unlink() if damage is None else path.write_bytes(damage)

    with pytest.raises(StoreError, match="is damaged or missing; `mora-store verify fruit"):
        send(store)
    with closing(open_remote(f"oci://{registry}/{repository}:tag", plain_http=True)) as remote:
        assert remote.current(None) is None


def test_a_signature_that_is_made_later_follows(store, published, send, keys, registry, repository):
    send(store)
    sign(store, "fruit", None, keys.private)
    send(store)

    with closing(open_remote(f"oci://{registry}/{repository}:tag", plain_http=True)) as remote:
        assert remote.current(None).signature == store.signature("fruit", 1)
