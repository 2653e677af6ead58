"""Places to push to, and stores with versions of some size."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from model_store import Manifest, Store, TrustedKeys, publish
from tests.support.transfer.between import Between, between
from tests.support.transfer.places import running_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a registry. Tests use repositories of their own."""
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def proxy(registry: str) -> Iterator[Between]:
    """A server in front of the registry, which counts bytes and makes faults."""
    with between(f"http://{registry}") as server:
        yield server


@pytest.fixture
def published(store: Store, draft: Callable) -> Manifest:
    """Version 1 of fruit, live in `store`."""
    return publish(store, *draft())


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another store, which does not exist yet."""
    return Store(tmp_path / "other")


@pytest.fixture
def repository() -> str:
    """A repository of the registry that no other test uses."""
    return f"tests/{uuid.uuid4().hex}"


class Keys(NamedTuple):
    """A key that signs, and what trusts it."""

    private: Ed25519PrivateKey
    trusted: TrustedKeys


@pytest.fixture
def keys() -> Keys:
    key = Ed25519PrivateKey.generate()
    return Keys(key, TrustedKeys([key.public_key()]))


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another at once."""
    monkeypatch.setattr("model_store.transfer.receiving.sleep", lambda seconds: None)
