"""Push to and pull from Debian's docker-registry, and from one whose answers are altered on the way."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from model_store import Store, StoreError, publish, sign
from model_store.publishing import attach
from model_store.transfer import TransferCount, TransferError, UnreachableError, open_remote, pinned, pull, push
from model_store.transfer.registry import IMAGE_MANIFEST


def push_to(target: str, store: Store, task: str = "fruit", version: int | None = None) -> int:
    """The bytes of blobs that were sent."""
    count = TransferCount()
    with closing(open_remote(target, plain_http=True)) as remote:
        push(store, task, version, remote, count)
    return count.moved_bytes


def image_of(registry: str, repository: str, tag: str) -> dict:
    address = f"http://{registry}/v2/{repository}/manifests/{tag}"
    return json.loads(urllib3.request("GET", address, headers={"Accept": IMAGE_MANIFEST}).data)


def test_a_version_arrives_as_it_was_published(store, other, published, registry, repository):
    target = f"oci://{registry}/{repository}:stable"

    sent = push_to(target, store)
    manifest = pull(target, other.root, plain_http=True, activate=True)

    assert sent == sum(blob.size for blob in published.blobs())
    assert manifest == published == other.verify("fruit")
    assert other.read_manifest("fruit")[1] == store.read_manifest("fruit")[1]
    assert other.live("fruit") == 1


def test_only_missing_blobs_are_sent_and_fetched(store, other, draft, registry, repository):
    first = publish(store, *draft())
    push_to(f"oci://{registry}/{repository}:a", store)
    pull(f"oci://{registry}/{repository}:a", other.root, plain_http=True)
    second = publish(store, *draft("tags"))
    own = sum(blob.size for blob in {*second.blobs()} - {*first.blobs()})

    sent = push_to(f"oci://{registry}/{repository}:b", store, "tags")
    count = TransferCount()
    pull(f"oci://{registry}/{repository}:b", other.root, plain_http=True, count=count)

    assert sent == count.moved_bytes == own > 0
    assert push_to(f"oci://{registry}/{repository}:b", store, "tags") == 0


def test_the_signature_travels_and_a_later_one_follows(store, other, published, registry, repository, keys):
    target = f"oci://{registry}/{repository}"
    push_to(target, store)
    pull(target, other.root, plain_http=True)
    assert other.signature("fruit", 1) is None

    sign(store, "fruit", None, keys.private)
    push_to(target, store)
    pull(target, other.root, plain_http=True, trusted=keys.trusted)

    assert other.signature("fruit", 1) == store.signature("fruit", 1)
    assert Store(other.root, keys.trusted).verify("fruit", 1) == published


def test_a_signature_in_the_openssf_format_travels(store, other, published, registry, repository):
    attach(store, "fruit", None, "model.sig", lambda manifest, content: b'{"a": "bundle"}')
    push_to(f"oci://{registry}/{repository}", store)

    pull(f"oci://{registry}/{repository}", other.root, plain_http=True)

    assert other.openssf_signature("fruit", 1) == b'{"a": "bundle"}'


def test_any_client_that_writes_layers_under_their_titles_gets_a_store(
    store, published, registry, repository, tmp_path
):
    push_to(f"oci://{registry}/{repository}:1", store)

    for layer in image_of(registry, repository, "1")["layers"]:
        path = tmp_path / "written" / layer["annotations"]["org.opencontainers.image.title"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(urllib3.request("GET", f"http://{registry}/v2/{repository}/blobs/{layer['digest']}").data)

    assert Store(tmp_path / "written").verify("fruit") == published


def test_the_same_version_is_the_same_image(store, published, registry, repository):
    for tag in ("a", "b"):
        push_to(f"oci://{registry}/{repository}:{tag}", store)

    assert image_of(registry, repository, "a") == image_of(registry, repository, "b")


def test_a_digest_names_one_version_for_good(store, other, published, draft, registry, repository):
    push_to(f"oci://{registry}/{repository}:1", store)
    response = urllib3.request(
        "HEAD", f"http://{registry}/v2/{repository}/manifests/1", headers={"Accept": IMAGE_MANIFEST}
    )
    digest = response.headers["Docker-Content-Digest"]
    publish(store, *draft(tail="second"))
    push_to(f"oci://{registry}/{repository}:1", store)

    assert pull(f"oci://{registry}/{repository}@{digest}", other.root, plain_http=True).version == 1
    with pytest.raises(TransferError, match="push to a tag"):
        push_to(f"oci://{registry}/{repository}@{digest}", store)


def test_a_tag_that_does_not_exist_is_named_with_the_way_out(other, registry, repository):
    target = f"oci://{registry}/{repository}:gone"

    with pytest.raises(StoreError, match=rf"^{target} points to no version; `mora-store push TASK {target}` puts one"):
        pull(target, other.root, plain_http=True)
    assert not other.root.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not JSON", "no version of mora-serve"),
        (b"[]", "no version of mora-serve"),
        (b"[" * 100_000, "no version of mora-serve"),
        (json.dumps({"schemaVersion": 2, "manifests": []}).encode(), "no version of mora-serve"),
        (b'{"layers": [{"mediaType": "x", "digest": "sha256:../../etc", "size": 1}]}', "no version of mora-serve"),
        (b"x" * 5_000_000, "more than 4,194,304 bytes"),
    ],
)
def test_what_is_no_version_is_refused(other, proxy, repository, content, problem):
    proxy.alter = lambda request, answer: answer.with_body(content, 200)

    with pytest.raises(TransferError, match=problem):
        pull(f"oci://{proxy.host}/{repository}", other.root, plain_http=True)
    assert not other.root.exists()


def test_an_endless_manifest_ends(other, proxy, repository):
    def endless(request, answer):
        answer.status, answer.chunks = 200, iter(lambda: b" " * 65536, None)
        return answer

    proxy.alter = endless

    with pytest.raises(TransferError, match="more than 4,194,304 bytes"):
        pull(f"oci://{proxy.host}/{repository}", other.root, plain_http=True)


@pytest.mark.parametrize("size", [4_194_305, 10**12, 10**30])
def test_a_manifest_of_a_huge_size_is_not_fetched(store, other, published, proxy, repository, size):
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    image = image_of(proxy.host, repository, "latest")
    image["layers"][0]["size"] = size
    proxy.alter = lambda request, answer: (
        answer.with_body(json.dumps(image).encode()) if "/manifests/" in request.path else answer
    )
    asked = len(proxy.requests)

    with pytest.raises(TransferError, match="more than 4,194,304"):
        pull(target, other.root, plain_http=True)
    assert len(proxy.requests) == asked + 1


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (flipped, "sent other bytes than blob"),
        (lambda content: content + b"x", "sent more than the"),
        (lambda content: content[: len(content) // 2], "of the .* bytes of blob"),
        (lambda content: b"", "of the .* bytes of blob"),
    ],
    ids=["flipped", "longer", "shorter", "empty"],
)
def test_a_blob_that_is_not_what_its_digest_says_never_becomes_visible(
    store, other, published, proxy, repository, change, problem, no_waits
):
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    head = published.head.sha256
    proxy.alter = lambda request, answer: answer.with_body(change(answer.body)) if head in request.path else answer

    with pytest.raises(TransferError, match=problem):
        pull(target, other.root, plain_http=True)

    assert not (other.root / "tasks").exists()
    assert not (other.root / "blobs").exists()
    proxy.alter = lambda request, answer: answer
    assert pull(target, other.root, plain_http=True) == published == other.verify("fruit", 1)


def test_an_answer_that_breaks_off_is_resumed(store, other, published, proxy, repository, no_waits):
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    head = published.head

    def cut(request, answer):
        if head.sha256 in request.path and "Range" not in request.headers:
            answer.length, answer.body = len(answer.body), answer.body[:10]
        return answer

    proxy.alter = cut

    pull(target, other.root, plain_http=True)

    ranges = [
        request.headers.get("Range")
        for request in proxy.requests
        if head.sha256 in request.path and request.method == "GET"
    ]
    assert ranges == [None, "bytes=10-"]
    assert other.verify("fruit", 1) == published


def test_a_registry_that_ignores_ranges_is_resumed_all_the_same(store, other, published, proxy, repository, no_waits):
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    whole = store.read(published.head)

    def cut(request, answer):
        if published.head.sha256 in request.path and request.method == "GET":
            is_again = "Range" in request.headers
            answer.status, answer.length, answer.body = 200, len(whole), whole if is_again else whole[:10]
        return answer

    proxy.alter = cut

    assert pull(target, other.root, plain_http=True) == other.verify("fruit", 1)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failing_registry_is_asked_again_and_then_named(other, proxy, repository, status, no_waits):
    proxy.alter = lambda request, answer: answer.with_body(b"", status)

    with pytest.raises(UnreachableError, match=f"{proxy.host} answers {status}; run this again later"):
        pull(f"oci://{proxy.host}/{repository}", other.root, plain_http=True)


@pytest.mark.parametrize(
    ("of", "another"),
    [("task", "tags"), ("task", "../../etc"), ("version", 7), ("version", 10**20)],
)
def test_a_forged_manifest_with_a_right_digest_is_checked_like_any(
    store, other, published, registry, repository, proxy, of, another, keys
):
    """A remote may rewrite the whole version; trusted keys refuse it, and no name in it leads out of the store."""
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    forged = json.dumps({**json.loads(store.read_manifest("fruit")[1]), of: another}).encode()
    digest = hashlib.sha256(forged).hexdigest()
    image = image_of(registry, repository, "latest")
    image["layers"][0] |= {"digest": f"sha256:{digest}", "size": len(forged)}

    def forge(request, answer):
        if "/manifests/" in request.path:
            return answer.with_body(json.dumps(image).encode())
        return answer.with_body(forged, 200) if digest in request.path else answer

    proxy.alter = forge

    with pytest.raises(StoreError, match="is not signed"):
        pull(target, other.root, plain_http=True, trusted=keys.trusted)
    if of == "version" and another == 7:
        assert pull(target, other.root, plain_http=True).version == 7
    elif another == "tags":
        assert pull(target, other.root, plain_http=True).task == "tags"
    else:
        with pytest.raises(StoreError, match="is not a valid manifest"):
            pull(target, other.root, plain_http=True)
        assert not other.root.exists()


def test_titles_of_layers_are_never_paths(store, other, published, proxy, registry, repository, tmp_path):
    target = f"oci://{proxy.host}/{repository}"
    push_to(target, store)
    image = image_of(registry, repository, "latest")
    for layer in image["layers"]:
        layer["annotations"] = {"org.opencontainers.image.title": "../../../escaped"}
    proxy.alter = lambda request, answer: (
        answer.with_body(json.dumps(image).encode()) if "/manifests/" in request.path else answer
    )

    pull(target, other.root, plain_http=True)

    assert not list(tmp_path.parent.rglob("escaped"))
    assert sorted(path.name for path in other.root.iterdir()) == [".incoming", ".lock", ".staging", "blobs", "tasks"]


def test_the_folder_of_unfinished_blobs_is_empty_after_a_pull(store, other, published, registry, repository):
    push_to(f"oci://{registry}/{repository}", store)
    pull(f"oci://{registry}/{repository}", other.root, plain_http=True)

    assert list((other.root / ".incoming").iterdir()) == []
    assert list((other.root / ".staging").iterdir()) == []
    assert Path(other.root, "blobs/sha256", published.head.sha256).stat().st_mode & 0o777 == 0o644


def test_a_pinned_tag_names_the_same_version_after_the_tag_has_moved(store, other, draft, registry, repository):
    target = f"oci://{registry}/{repository}:stable"
    publish(store, *draft())
    push_to(target, store)
    first = pinned(target, plain_http=True)
    publish(store, *draft(tail="second"))
    push_to(target, store)

    assert first.startswith(f"oci://{registry}/{repository}@sha256:")
    assert pinned(first, plain_http=True) == first != pinned(target, plain_http=True)
    assert pull(first, other.root, plain_http=True).version == 1
    assert pull(target, other.root, plain_http=True).version == 2


def test_a_tag_that_does_not_exist_is_pinned_as_it_is(registry, repository):
    target = f"oci://{registry}/{repository}:none"
    assert pinned(target, plain_http=True) == target
