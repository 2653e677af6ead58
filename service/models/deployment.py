"""The versions that a deployment on several nodes serves: those that were live at its start, by manifest digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store import CorruptError, Manifest, NotFoundError, Store, TrustedKeys, blob_of


@dataclass(frozen=True)
class DeployedVersion:
    """A version and the SHA-256 of its manifest, which in turn holds the SHA-256 of the version's other files."""

    version: int
    manifest_sha256: str


def live_versions(store: Store) -> dict[str, DeployedVersion]:
    """The live version of each task that has one, verified like by `mora-store verify`.

    Raises NotFoundError if no task is live, CorruptError or UntrustedError for a version that fails the verification.
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
    """A node's store, restricted to the deployed versions, all of which are live.

    Later changes of `live` and new versions have no effect until the next deployment, so that all nodes give the same
    answers. Reading raises CorruptError (`sha256`) for a manifest other than the deployed one.
    """

    def __init__(self, root: Path, deployed: Mapping[str, DeployedVersion], trusted: TrustedKeys | None = None) -> None:
        super().__init__(root, trusted)
        self._deployed = deployed

    def entries(self) -> list[str]:
        return sorted(self._deployed)

    def tasks(self) -> list[str]:
        return self.entries()

    def folder_id(self) -> tuple[int, int]:
        return (0, 0)  # the same until the next deployment

    def stamp(self, task: str, version: int) -> tuple[int, ...] | None:
        return ()  # as above

    def versions(self, task: str) -> list[int]:
        return [self._deployed[task].version] if task in self._deployed else []

    def live(self, task: str) -> int | None:
        return self._deployed[task].version if task in self._deployed else None

    def is_withdrawn(self, task: str) -> bool:
        return False  # until the next deployment

    def read_manifest(self, task: str, version: int | None = None) -> tuple[Manifest, bytes]:
        manifest, content = super().read_manifest(task, version)
        digest, expected = blob_of(content).sha256, self._deployed[task].manifest_sha256
        if digest != expected:
            message = f"{task} version {manifest.version} has manifest {digest}, deployed was {expected}"
            raise CorruptError(f"{message}; copy the store to this node again", "sha256")
        return manifest, content

    def verify_all(self) -> None:
        """Read every file of every deployed version. Raises CorruptError or UntrustedError."""
        for task in self.tasks():
            self.verify(task)
