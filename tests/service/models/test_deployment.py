"""The deployed versions of a store on each node."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from model_store import CorruptError, NotFoundError, Store, activate
from service.models.deployment import DeployedStore, live_versions
from service.settings import RaySettings, Settings, check_names
from service.web.app import create_app
from tests.support.tiny import Shelf


@pytest.fixture
def node(shelf: Shelf, tmp_path: Path) -> Callable[[], Shelf]:
    """Another node's copy of the store."""

    def copy() -> Shelf:
        shutil.copytree(shelf.store.root, tmp_path / "node")
        return Shelf(Store(tmp_path / "node"))

    return copy


def test_a_copy_of_the_store_is_accepted(shelf, node):
    shelf.publish("fruit")
    shelf.publish("tags")
    copy = DeployedStore(node().store.root, live_versions(shelf.store))

    copy.verify_all()

    assert {task: copy.live(task) for task in copy.tasks()} == {"fruit": 1, "tags": 1}


def test_a_version_published_later_is_not_live_before_its_deployment(shelf, node):
    shelf.publish("fruit", seed=1)
    deployed = live_versions(shelf.store)
    copy = node()
    copy.publish("fruit", seed=2)
    copy.publish("tags")
    store = DeployedStore(copy.store.root, deployed)

    store.verify_all()

    assert (store.tasks(), store.live("fruit"), store.versions("fruit")) == (["fruit"], 1, [1])
    assert copy.store.live("fruit") == 2  # the control: an ordinary store goes on


def test_another_manifest_of_the_same_number_is_refused(shelf, tmp_path):
    shelf.publish("fruit", seed=1)
    other = Shelf(Store(tmp_path / "other"))
    other.publish("fruit", seed=2)

    other.store.verify("fruit", 1)  # the control: it is whole
    with pytest.raises(CorruptError, match=r"version 1 has manifest \w{64}, deployed was \w{64}") as at:
        DeployedStore(other.store.root, live_versions(shelf.store)).verify_all()
    assert at.value.reason == "sha256"


def test_a_missing_version_is_refused(shelf, node):
    shelf.publish("fruit", seed=1)
    copy = node()
    shelf.publish("fruit", seed=2)

    with pytest.raises(CorruptError, match=r"tasks/fruit/2/manifest\.json is missing"):
        DeployedStore(copy.store.root, live_versions(shelf.store)).verify_all()


def test_a_damaged_blob_is_refused(shelf, node):
    manifest = shelf.publish("fruit")
    copy = node()
    blob = copy.store.root / "blobs" / "sha256" / manifest.blobs()[0].sha256
    data = bytearray(blob.read_bytes())
    data[0] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)

    with pytest.raises(CorruptError, match="another SHA-256 than its name"):
        DeployedStore(copy.store.root, live_versions(shelf.store)).verify_all()


def test_a_damaged_or_empty_store_is_not_deployed(shelf):
    with pytest.raises(NotFoundError, match="nothing to deploy"):
        live_versions(shelf.store)
    manifest = shelf.publish("fruit")
    (shelf.store.root / "blobs" / "sha256" / manifest.blobs()[0].sha256).unlink()

    with pytest.raises(CorruptError, match="is missing"):
        live_versions(shelf.store)


def test_the_service_answers_with_the_deployed_version_after_live_moves(shelf):
    shelf.publish("fruit", seed=1)
    shelf.publish("fruit", seed=2)
    deployed = live_versions(shelf.store)
    activate(shelf.store, "fruit", 1)
    settings = Settings(store=shelf.store.root, intra_op_threads=1, poll_seconds=0.02)

    with TestClient(create_app(settings, DeployedStore(shelf.store.root, deployed))) as client:
        assert client.post("/classify", json={"text": "a red apple"}).json()["version"] == 2
        pinned = client.post("/classify", json={"text": "a red apple", "version": 1})
        assert (pinned.status_code, pinned.json()["code"]) == (404, "unknown_version")


def test_rays_settings_are_unknown_to_the_plain_service():
    check_names(["MORA_MIN_REPLICAS"], RaySettings)
    with pytest.raises(ValueError, match="MORA_MIN_REPLICAS is not a setting"):
        check_names(["MORA_MIN_REPLICAS"])
