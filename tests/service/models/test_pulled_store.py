"""A store that is pulled from targets before it is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from structlog.testing import capture_logs

from model_store import Store, StoreError, rollback, transfer, withdraw
from model_store.transfer import TransferCount, TransferError
from model_store.transfer.folder import Folder
from service.models.pulled_store import pull_store
from service.settings import Settings
from tests.support.tiny import Shelf

FRUIT, TAGS = "oci://registry.example/shop/models:fruit", "oci://registry.example/shop/models:tags"


@pytest.fixture
def remote(tmp_path, monkeypatch) -> Shelf:
    """A store that the targets stand for; the word after the colon is the task."""
    shelf = Shelf(Store(tmp_path / "remote"))

    def open_remote(target: str, *, plain_http: bool) -> Folder:
        return Folder(target, shelf.store.root, target.rpartition(":")[2])

    monkeypatch.setattr(transfer, "open_remote", open_remote)
    return shelf


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(store=f"{FRUIT}, {TAGS}", store_cache=tmp_path / "cache")


def test_every_target_is_pulled_and_live(remote, settings):
    remote.publish("fruit")
    remote.publish("tags")
    count = TransferCount()

    pull_store(settings, count)

    store = Store(settings.store_folder)
    assert {task: store.live(task) for task in store.tasks()} == {"fruit": 1, "tags": 1}
    assert store.verify("fruit").task == "fruit"
    assert count.total_bytes > 0


def test_a_folder_is_not_touched(tmp_path):
    pull_store(Settings(store=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_later_start_follows_the_targets(remote, settings):
    remote.publish("fruit")
    remote.publish("tags")
    pull_store(settings)
    remote.publish("fruit", seed=2)
    pull_store(settings)
    assert Store(settings.store_folder).live("fruit") == 2

    rollback(remote.store, "fruit")
    pull_store(settings)
    assert Store(settings.store_folder).live("fruit") == 1


def test_a_task_that_is_withdrawn_here_stays_so(remote, settings):
    remote.publish("fruit")
    remote.publish("tags")
    pull_store(settings)
    withdraw(Store(settings.store_folder), "fruit")

    pull_store(settings)

    assert Store(settings.store_folder).live("fruit") is None


def test_a_rollback_here_lasts_until_the_target_changes(remote, settings):
    for seed in (1, 2):
        remote.publish("fruit", seed=seed)
        remote.publish("tags")
        pull_store(settings)
    store = Store(settings.store_folder)
    rollback(store, "fruit")

    pull_store(settings)
    assert store.live("fruit") == 1
    remote.publish("fruit", seed=3)
    pull_store(settings)
    assert store.live("fruit") == 3


def test_what_an_earlier_start_pulled_is_served_if_a_target_fails(remote, settings, monkeypatch):
    remote.publish("fruit")
    remote.publish("tags")
    pull_store(settings)

    def fail(target: str, *, plain_http: bool) -> Folder:
        raise TransferError(f"{target} gives no answer")

    monkeypatch.setattr(transfer, "open_remote", fail)
    with capture_logs() as logs:
        pull_store(settings)

    assert [line["target"] for line in logs if line["event"] == "store_not_pulled"] == [FRUIT, TAGS]
    assert Store(settings.store_folder).live("fruit") == 1


def test_nothing_to_serve_is_an_error_that_names_the_target(remote, settings):
    with pytest.raises(StoreError, match="points to no version") as error:
        pull_store(settings)
    assert FRUIT in str(error.value)


def test_one_target_of_two_is_served_and_the_other_logged(remote, settings):
    remote.publish("tags")
    with capture_logs() as logs:
        pull_store(settings)

    assert Store(settings.store_folder).live("tags") == 1
    assert [line["event"] for line in logs] == ["store_not_pulled", "store_pulled"]


def test_a_version_that_no_trusted_key_signed_is_not_pulled(remote, tmp_path):
    remote.publish("fruit")
    key = Ed25519PrivateKey.generate().public_key()
    keys = tmp_path / "keys.pem"
    keys.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    settings = Settings(store=FRUIT, store_cache=tmp_path / "cache", trusted_keys=keys)

    with pytest.raises(StoreError, match="not signed"):
        pull_store(settings)
    assert list(Path(settings.store_folder).rglob("manifest.json")) == []
