"""What a pull checks before it fetches, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_store import Store, StoreError, TrustedKeys, publish, sign, withdraw
from model_store.transfer import TransferCount, TransferError, pull, pulling


def test_another_version_of_the_same_number_stays(store, other, draft):
    publish(store, *draft())
    publish(other, *draft(tail="another"))
    before = other.read_manifest("fruit")[1]

    with pytest.raises(StoreError, match="has another version 1 of fruit, which stays as it is; publish it again"):
        pull(str(store.root), other.root, activate=True)

    assert other.read_manifest("fruit")[1] == before
    assert not (other.root / ".incoming").exists(), "nothing was fetched"


def test_a_version_that_is_here_is_not_fetched_again(store, other, published):
    pull(str(store.root), other.root)
    count = TransferCount()

    pull(str(store.root), other.root, count=count)

    assert (count.total_bytes, count.moved_bytes) == (0, 0)


def test_a_blob_that_is_damaged_here_is_fetched_again(store, other, published):
    pull(str(store.root), other.root)
    (other.root / "blobs/sha256" / published.head.sha256).write_bytes(b"damaged")
    count = TransferCount()

    pull(str(store.root), other.root, count=count)

    assert count.moved_bytes == published.head.size
    assert other.verify("fruit", 1) == published


def test_blobs_that_another_pull_brings_meanwhile_leave_no_unfinished_files(store, other, published, monkeypatch):
    wait_for_lock = pulling.incoming_file

    def wait_while_another_pulls(root, name):
        monkeypatch.undo()
        pull(str(store.root), other.root)
        return wait_for_lock(root, name)

    monkeypatch.setattr(pulling, "incoming_file", wait_while_another_pulls)
    pull(str(store.root), other.root)

    assert other.verify("fruit", 1) == published
    assert list((other.root / ".incoming").iterdir()) == []


def test_a_full_disk_is_found_before_anything_is_fetched(store, other, published, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))

    with pytest.raises(TransferError, match=r"needs .* more in .*, and 10 B are free; free space on the disk"):
        pull(str(store.root), other.root)
    assert not other.root.exists()


@pytest.mark.parametrize("signed_by", ["nobody", "another key", "a changed manifest"])
def test_a_version_that_no_trusted_key_signed_is_refused(store, other, published, keys, signed_by):
    if signed_by != "nobody":
        sign(store, "fruit", None, Ed25519PrivateKey.generate() if signed_by == "another key" else keys.private)
    if signed_by == "a changed manifest":
        path = store.root / "tasks/fruit/1/manifest.json"
        path.write_bytes(path.read_bytes().replace(b"apple", b"appel"))
        (store.root / "tasks/fruit/1/manifest.sha256").unlink()

    with pytest.raises(StoreError, match=r"is not signed; sign it where it was made|is signed by no trusted key"):
        pull(str(store.root), other.root, trusted=keys.trusted)
    assert not other.root.exists()


def test_a_signature_here_is_replaced_only_by_a_trusted_one(store, other, published, keys):
    first, second = Ed25519PrivateKey.generate(), keys.private
    sign(store, "fruit", None, first)
    pull(str(store.root), other.root)
    before = other.signature("fruit", 1)
    sign(store, "fruit", None, second)

    pull(str(store.root), other.root)
    assert other.signature("fruit", 1) == before
    pull(str(store.root), other.root, trusted=TrustedKeys([second.public_key()]))
    assert other.signature("fruit", 1) == store.signature("fruit", 1) != before


def test_the_flag_ends_a_withdrawal(store, other, published):
    pull(str(store.root), other.root, activate=True)
    withdraw(other, "fruit")

    pull(str(store.root), other.root)
    assert other.is_withdrawn("fruit")
    pull(str(store.root), other.root, activate=True)
    assert other.live("fruit") == 1


@pytest.mark.parametrize("folder", ["store", "store/tasks", "store/.incoming"])
def test_a_store_without_write_permission_is_named(store, tmp_path, published, folder):
    if os.geteuid() == 0:
        path = tmp_path / "read" / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a file in place of the folder")
    else:
        path = tmp_path / "read" / folder
        path.mkdir(parents=True)
        path.chmod(0o500)

    with pytest.raises((OSError, StoreError)):
        pull(str(store.root), tmp_path / "read/store")


def test_a_link_in_place_of_the_folder_of_unfinished_blobs_is_refused(store, other, published, tmp_path):
    other.root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (other.root / ".incoming").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="incoming is a symlink"):
        pull(str(store.root), other.root)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_of_a_service_that_requires_signatures_still_refuses_the_version(store, other, published, keys):
    pull(str(store.root), other.root, activate=True)

    with pytest.raises(StoreError, match="is not signed"):
        Store(other.root, keys.trusted).verify("fruit")
