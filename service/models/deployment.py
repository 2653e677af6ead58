"""What several nodes answer with: the versions that were live when they were deployed, by the digests of manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store import CorruptError, Manifest, NotFoundError, Store, TrustedKeys, blob_of


@dataclass(frozen=True)
class DeployedVersion:
    """A version, and the SHA-256 of its manifest, which holds the SHA-256 of every other file of it."""

    version: int
    manifest_sha256: str


def live_versions(store: Store) -> dict[str, DeployedVersion]:
    """The live version of each task that has one, after reading every file of it as `mora-store verify` does.

    Raises NotFoundError where nothing is live, CorruptError or UntrustedError for a version that cannot be deployed.
    """
    deployed = {}
    for task in store.tasks():
        version = store.live(task)
        if version is not None:
            store.verify(task, version)
            deployed[task] = DeployedVersion(version, blob_of(store.read_manifest(task, version)[1]).sha256)
    if not deployed:
        raise NotFoundError(f"nothing to deploy: no task in {store.root} is live")
    return deployed


class DeployedStore(Store):
    """One node's store as a deployment sees it: what was deployed is live there, and is all there is.

    `live` and versions that are published later change nothing until the next deployment, so that all nodes answer
    alike. Reading raises CorruptError (`sha256`) where a manifest is not the one that was deployed.
    """

    def __init__(self, root: Path, deployed: Mapping[str, DeployedVersion], trusted: TrustedKeys | None = None) -> None:
        super().__init__(root, trusted)
        self._deployed = deployed

    def tasks(self) -> list[str]:
        return sorted(self._deployed)

    def versions(self, task: str) -> list[int]:
        return [self._deployed[task].version] if task in self._deployed else []

    def live(self, task: str) -> int | None:
        return self._deployed[task].version if task in self._deployed else None

    def read_manifest(self, task: str, version: int | None = None) -> tuple[Manifest, bytes]:
        manifest, content = super().read_manifest(task, version)
        found, expected = blob_of(content).sha256, self._deployed[task].manifest_sha256
        if found != expected:
            message = f"{task} version {manifest.version} has manifest {found}, deployed was {expected}"
            raise CorruptError(f"{message}; copy the store to this node again", "sha256")
        return manifest, content

    def verify_all(self) -> None:
        """Read every file of every deployed version. Raises CorruptError or UntrustedError."""
        for task in self.tasks():
            self.verify(task)
