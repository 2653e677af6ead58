"""Reading of the store. Every file is verified; nothing is written or repaired."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from model_store.errors import CorruptError, NotFoundError, UntrustedError
from model_store.files import digest_line, read_beneath
from model_store.item_scores import ItemScores
from model_store.manifest import TASK_NAME, Blob, Manifest
from model_store.messages import describe_validation_error
from model_store.signing import SIGNATURE_BYTES, TrustedKeys

DEFAULT_STORE = Path(__file__).parent
MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # what is parsed from it may take forty times as much memory
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


WITHDRAWN = "withdrawn"  # empty file in a task's folder


class Store:
    """A model store on disk: `blobs/sha256/<hex>`, `tasks/<task>/<version>/manifest.json`, `tasks/<task>/live`.

    With `trusted` keys, every version must be signed by one of them.
    """

    def __init__(self, root: Path = DEFAULT_STORE, trusted: TrustedKeys | None = None) -> None:
        self.root = root
        self._trusted = trusted

    def tasks(self) -> list[str]:
        """Names of the tasks that have a folder, sorted. Folders with an invalid task name are ignored."""
        folder = self.root / "tasks"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and re.fullmatch(TASK_NAME, path.name))

    def versions(self, task: str) -> list[int]:
        """Published versions of a task, oldest first. Raises NotFoundError for an unknown task."""
        folder = self._task_folder(task)
        return sorted(int(path.name) for path in folder.iterdir() if _VERSION.fullmatch(path.name))

    def live(self, task: str) -> int | None:
        """The version that services answer with, or None before the first activation and for a withdrawn task."""
        return None if self.is_withdrawn(task) else self._number(task, "live")

    def is_withdrawn(self, task: str) -> bool:
        """Whether services must not answer for the task until a version is activated."""
        return os.path.lexists(self._task_folder(task) / WITHDRAWN)

    def newest(self, task: str) -> int:
        """The highest version number that was ever published, also if that version was deleted since; 0 for none."""
        return max([0, *self.versions(task), *(self._number(task, name) or 0 for name in ("live", "newest"))])

    def manifest(self, task: str, version: int | None = None) -> Manifest:
        """The manifest of a version, by default the live one.

        Raises:
            NotFoundError: the task or version does not exist, or no version is live.
            CorruptError: the manifest is invalid, names another task or version, or differs from its SHA-256.
            UntrustedError: no trusted key signed the manifest.
        """
        return self.read_manifest(task, version)[0]

    def read_manifest(self, task: str, version: int | None = None) -> tuple[Manifest, bytes]:
        """The manifest of a version and its bytes, which a signature covers. Raises as `manifest`."""
        version = version if version is not None else self.live(task)
        versions = self.versions(task)
        if version is None:
            cure = f"run `mora-store activate {task} VERSION --store {self.root}`" if versions else "publish one"
            raise NotFoundError(f"task {task} has no live version; {cure}")
        if version not in versions:
            raise NotFoundError(f"task {task} has no version {version}; it has {_listed(versions)}")
        name = f"tasks/{task}/{version}/manifest.json"
        content = read_beneath(self.root, name, MAX_MANIFEST_BYTES)
        if self._trusted is not None:  # before the manifest is parsed: it may be forged
            self._check_signature(self._trusted, content, task, version)
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise CorruptError(f"{name} {_problem(error)}; publish the version again", "manifest") from error
        if (manifest.task, manifest.version) != (task, version):
            problem = f"{name} describes {manifest.task} version {manifest.version}; publish the version again"
            raise CorruptError(problem, "manifest")
        digest, line = f"tasks/{task}/{version}/manifest.sha256", digest_line(content)
        # Other programs may write versions without this file. The SHA-256 of their manifests is not checked.
        if os.path.lexists(self.root / digest) and read_beneath(self.root, digest, len(line)) != line:
            raise CorruptError(f"{name} has another SHA-256 than manifest.sha256; publish the version again", "sha256")
        return manifest, content

    def signature(self, task: str, version: int) -> bytes | None:
        """The content of `manifest.sig` of a version, or None if it is not signed. Raises CorruptError."""
        name = f"tasks/{task}/{version}/manifest.sig"
        return read_beneath(self.root, name, SIGNATURE_BYTES) if os.path.lexists(self.root / name) else None

    def read(self, blob: Blob) -> bytes:
        """The bytes of a blob. Raises CorruptError if their number or SHA-256 differs from the blob's."""
        name = f"blobs/sha256/{blob.sha256}"
        data = read_beneath(self.root, name, blob.size)
        if len(data) != blob.size:
            raise CorruptError(f"{name} has {len(data)} bytes, expected {blob.size}; publish the version again", "size")
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise CorruptError(f"{name} has another SHA-256 than its name; publish the version again", "sha256")
        return data

    def verify(self, task: str, version: int | None = None) -> Manifest:
        """Read every file of a version and return its manifest. Raises as `manifest` and `read`."""
        manifest = self.manifest(task, version)
        for blob in manifest.blobs():
            self.read(blob)
        return manifest

    def test_scores(self, manifest: Manifest) -> ItemScores | None:
        """How right the answers to the test items are; None for a version without scores. Raises CorruptError."""
        if manifest.test_scores is None:
            return None
        try:
            return ItemScores.model_validate_json(self.read(manifest.test_scores))
        except ValidationError as error:
            problem = "; ".join(describe_validation_error(error)[:3])
            name = f"test_scores.json of {manifest.task} version {manifest.version}"
            raise CorruptError(f"{name} is not valid: {problem}; publish the version again", "manifest") from error

    def _check_signature(self, trusted: TrustedKeys, content: bytes, task: str, version: int) -> None:
        signature = self.signature(task, version)
        if signature is None:
            cure = f"`mora-store sign {task} --version {version} --key KEY --store {self.root}` signs it"
            raise UntrustedError(f"{task} version {version} is not signed; {cure}")
        if trusted.signer(content, signature) is None:
            message = f"{task} version {version} is signed by no trusted key, or was changed after it was signed"
            raise UntrustedError(f"{message}; publish the version again, or sign it with a trusted key")

    def _number(self, task: str, name: str) -> int | None:
        """The version number in a file of the task's folder, or None if the file does not exist."""
        if not os.path.lexists(self._task_folder(task) / name):
            return None
        text = read_beneath(self.root, f"tasks/{task}/{name}", 32).decode("ascii", "replace").strip()
        if not _VERSION.fullmatch(text):
            cure = f"run `mora-store activate {task} VERSION --store {self.root}`"
            raise CorruptError(f"tasks/{task}/{name} does not hold a version number; {cure}", "manifest")
        return int(text)

    def _task_folder(self, task: str) -> Path:
        if not re.fullmatch(TASK_NAME, task):
            raise NotFoundError("a task name has up to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit")
        folder = self.root / "tasks" / task
        if not folder.is_dir():
            raise NotFoundError(f"no task {task} in {self.root}; it has {_listed(self.tasks())}")
        return folder


def _problem(error: ValidationError) -> str:
    for problem in error.errors():
        if problem["loc"] == ("schema_version",):
            schema = problem["input"]
            number = f" {schema}" if isinstance(schema, int) and 0 <= schema < 1000 else ""
            return f"has the format (schema_version{number}) of another release of this program; this one reads 1 and 2"
    return f"is not a valid manifest: {'; '.join(describe_validation_error(error)[:3])}"


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names)) or "none"
