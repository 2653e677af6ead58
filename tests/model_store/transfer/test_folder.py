"""Push to and pull from a store in another folder."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing

import pytest

from model_store import Store, StoreError, activate, publish, publishing, sign, withdraw
from model_store.publishing import attach
from model_store.transfer import TransferCount, TransferError, open_remote, pinned, pull, push


def push_to(target: object, store: Store, task: str = "fruit", version: int | None = None) -> int:
    count = TransferCount()
    with closing(open_remote(str(target))) as remote:
        push(store, task, version, remote, count)
    return count.moved_bytes


def test_a_version_arrives_as_it_was_published(store, other, published, keys, tmp_path):
    sign(store, "fruit", None, keys.private)
    push_to(tmp_path / "share", store)

    assert Store(tmp_path / "share", keys.trusted).verify("fruit") == published
    assert pull(str(tmp_path / "share"), other.root, trusted=keys.trusted) == published
    assert Store(other.root, keys.trusted).verify("fruit", 1) == published
    assert list((tmp_path / "share" / ".incoming").iterdir()) == []


def test_only_missing_blobs_are_copied(store, draft, tmp_path):
    first = publish(store, *draft())
    push_to(tmp_path / "share", store)
    second = publish(store, *draft("tags"))

    assert push_to(tmp_path / "share", store, "tags") == sum(blob.size for blob in {*second.blobs()} - {*first.blobs()})


def test_an_older_version_can_be_pushed_and_becomes_live(store, draft, tmp_path):
    for tail in ("first", "second"):
        publish(store, *draft(tail=tail))
        push_to(tmp_path / "share", store)

    push_to(tmp_path / "share", store, version=1)

    assert Store(tmp_path / "share").live("fruit") == 1
    assert Store(tmp_path / "share").newest("fruit") == 2


def test_a_task_that_is_withdrawn_there_stays_so(store, other, published, draft, tmp_path):
    push_to(tmp_path / "share", store)
    withdraw(Store(tmp_path / "share"), "fruit")
    publish(store, *draft(tail="second"))

    push_to(tmp_path / "share", store)

    assert Store(tmp_path / "share").versions("fruit") == [1, 2]
    assert Store(tmp_path / "share").is_withdrawn("fruit")
    with pytest.raises(StoreError, match="points to no version"):
        pull(str(tmp_path / "share"), other.root)


def test_one_of_several_tasks_is_named_with_a_colon(store, other, draft, tmp_path):
    for task in ("fruit", "tags"):
        publish(store, *draft(task))
        push_to(f"{tmp_path}/share:{task}", store, task)

    with pytest.raises(TransferError, match="holds 2 tasks"):
        pull(f"{tmp_path}/share", other.root)
    assert pull(f"{tmp_path}/share:tags", other.root).task == "tags"
    with pytest.raises(StoreError, match="points to no version"):
        pull(f"{tmp_path}/share:gone", other.root)


def test_a_folder_with_a_colon_in_its_name_is_that_folder(store, other, published, tmp_path):
    (tmp_path / "a:fruit").mkdir()
    push_to(f"{tmp_path}/a:fruit", store)

    assert Store(tmp_path / "a:fruit").verify("fruit") == published


def test_a_damaged_blob_is_not_pushed_and_one_that_is_damaged_there_is_replaced(store, published, tmp_path):
    push_to(tmp_path / "share", store)
    name = f"blobs/sha256/{published.head.sha256}"
    (tmp_path / "share" / name).write_bytes(b"damaged")
    push_to(tmp_path / "share", store)
    assert Store(tmp_path / "share").verify("fruit") == published

    (store.root / name).write_bytes(b"damaged")
    (tmp_path / "share" / name).unlink()
    with pytest.raises(
        StoreError, match=f"blob {published.head.sha256} is damaged or missing; `mora-store verify fruit"
    ):
        push_to(tmp_path / "share", store)


@pytest.mark.parametrize("fails_at", ["a copy", "the version"])
def test_a_push_that_fails_leaves_no_copies_there(store, published, tmp_path, monkeypatch, fails_at):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse_a_file(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            refuse()

    with monkeypatch.context() as full:
        full.setattr(*((os, "fsync", refuse_a_file) if fails_at == "a copy" else (publishing, "add_version", refuse)))
        with pytest.raises(OSError, match="No space left"):
            push_to(tmp_path / "share", store)
    assert list((tmp_path / "share/.incoming").iterdir()) == []

    push_to(tmp_path / "share", store)
    assert Store(tmp_path / "share").verify("fruit") == published


@pytest.mark.parametrize("place", ["gone", "file", "empty"])
def test_what_is_no_store_points_to_no_version(other, tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "empty").mkdir()

    with pytest.raises(StoreError, match=r"points to no version|cannot be read"):
        pull(str(tmp_path / place), other.root)


def test_a_store_that_is_damaged_there_is_not_pulled(store, other, published):
    path = store.root / "blobs/sha256" / published.head.sha256
    path.write_bytes(b"x" * published.head.size)

    with pytest.raises(StoreError, match="sent other bytes"):
        pull(str(store.root), other.root)
    assert not (other.root / "tasks").exists()
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        pull(str(store.root), other.root)


def test_what_is_live_here_does_not_change_without_the_flag(store, other, draft):
    publish(store, *draft())
    pull(str(store.root), other.root, activate=True)
    publish(store, *draft(tail="second"))

    pull(str(store.root), other.root)

    assert (other.live("fruit"), other.versions("fruit")) == (1, [1, 2])
    activate(other, "fruit", 2)


def test_a_signature_in_the_openssf_format_travels(store, other, published, tmp_path):
    attach(store, "fruit", None, "model.sig", lambda manifest, content: b'{"a": "bundle"}')
    push_to(tmp_path / "share", store)

    pull(str(tmp_path / "share"), other.root)

    assert other.openssf_signature("fruit", 1) == b'{"a": "bundle"}'


def test_a_folder_has_no_name_for_one_version(store, published):
    assert pinned(str(store.root)) == str(store.root)
    assert pinned(f"{store.root}:fruit") == f"{store.root}:fruit"
