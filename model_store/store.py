"""Reading of the store. Every file is verified; nothing is written or repaired."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from io import BufferedReader
from pathlib import Path

from pydantic import ValidationError

from model_store.errors import CorruptError, NotFoundError, UntrustedError
from model_store.files import (
    digest_line,
    exists_beneath,
    is_folder_beneath,
    open_beneath,
    read_beneath,
    stamp_of,
    stat_beneath,
    unreadable,
)
from model_store.item_scores import ItemScores
from model_store.manifest import TASK_NAME, Blob, Manifest
from model_store.messages import describe_validation_error, quoted
from model_store.signing import SIGNATURE_BYTES, TrustedKeys

DEFAULT_STORE = Path(__file__).parent
MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # what is parsed from it may take forty times as much memory
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_DAMAGED_SECONDS = 30.0  # after which a blob with a wrong digest is read again although it has not changed


WITHDRAWN = "withdrawn"  # empty file in a task's folder
OPENSSF_SIGNATURE = "model.sig"  # of a version, in the OpenSSF Model Signing format
MAX_OPENSSF_BYTES = 1024 * 1024


class Store:
    """A model store on disk: `blobs/sha256/<hex>`, `tasks/<task>/<version>/manifest.json`, `tasks/<task>/live`.

    With `trusted` keys, every version must be signed by one of them.
    """

    def __init__(self, root: Path = DEFAULT_STORE, trusted: TrustedKeys | None = None) -> None:
        self.root = root
        self.trusted = trusted
        self._damaged: dict[str, tuple[tuple[int, ...], float]] = {}  # blobs: stamp, and when to read again

    def entries(self) -> list[str]:
        """Names in the folder `tasks` that a task may have, sorted, whether they are folders or not.

        Raises CorruptError if the folder cannot be read, with the reason `missing` if this is no store.
        """
        try:
            return sorted(path.name for path in (self.root / "tasks").iterdir() if re.fullmatch(TASK_NAME, path.name))
        except FileNotFoundError as error:
            problem = f"{self.root} has no folder `tasks`; mount the store there, or correct the path"
            raise CorruptError(problem, "missing") from error
        except OSError as error:
            raise unreadable(f"{self.root}/tasks", error) from error

    def tasks(self) -> list[str]:
        """Names of the tasks that have a folder, sorted; none if this is no store. Raises CorruptError."""
        try:
            names = self.entries()
        except CorruptError as error:
            if error.reason == "missing":
                return []
            raise
        return [name for name in names if is_folder_beneath(self.root, f"tasks/{name}")]

    def folder_id(self) -> tuple[int, int]:
        """A value that differs for another folder `tasks`, such as that of another store in the place of this one."""
        try:
            status = (self.root / "tasks").stat()
        except OSError as error:
            raise unreadable(f"{self.root}/tasks", error) from error
        return status.st_dev, status.st_ino

    def versions(self, task: str) -> list[int]:
        """Published versions of a task, oldest first. Raises NotFoundError for an unknown task, or CorruptError."""
        folder = self._task_folder(task)
        try:
            return sorted(int(path.name) for path in folder.iterdir() if _VERSION.fullmatch(path.name))
        except OSError as error:
            raise unreadable(f"tasks/{task}", error) from error

    def live(self, task: str) -> int | None:
        """The version that services answer with, or None before the first activation and for a withdrawn task.

        Raises NotFoundError for an unknown task, CorruptError if the number cannot be read.
        """
        return None if self.is_withdrawn(task) else self.number(task, "live")

    def is_withdrawn(self, task: str) -> bool:
        """Whether services must not answer for the task until a version is activated. Raises as `live`."""
        self._task_folder(task)
        return exists_beneath(self.root, f"tasks/{task}/{WITHDRAWN}")

    def number(self, task: str, name: str) -> int | None:
        """The version number in a file of the task's folder, or None if the file does not exist. Raises as `live`."""
        self._task_folder(task)
        if not exists_beneath(self.root, f"tasks/{task}/{name}"):
            return None
        text = read_beneath(self.root, f"tasks/{task}/{name}", 32).decode("ascii", "replace").strip()
        if not _VERSION.fullmatch(text):
            cure = f"run `mora-store activate {task} VERSION --store {quoted(self.root)}`"
            raise CorruptError(f"tasks/{task}/{name} does not hold a version number; {cure}", "manifest")
        return int(text)

    def newest(self, task: str) -> int:
        """The highest version number that was ever published, also if that version was deleted since; 0 for none."""
        return max([0, *self.versions(task), *(self.number(task, name) or 0 for name in ("live", "newest"))])

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
            cure = (
                f"run `mora-store activate {task} VERSION --store {quoted(self.root)}`" if versions else "publish one"
            )
            raise NotFoundError(f"task {task} has no live version; {cure}")
        if version not in versions:
            raise NotFoundError(f"task {task} has no version {version}; it has {_listed(versions)}")
        name = f"tasks/{task}/{version}/manifest.json"
        content = read_beneath(self.root, name, MAX_MANIFEST_BYTES)
        if self.trusted is not None:  # before the manifest is parsed: it may be forged
            self._check_signature(self.trusted, content, task, version)
        manifest = parse_manifest(content, name)
        if (manifest.task, manifest.version) != (task, version):
            problem = f"{name} describes {manifest.task} version {manifest.version}; publish the version again"
            raise CorruptError(problem, "manifest")
        digest, line = f"tasks/{task}/{version}/manifest.sha256", digest_line(content)
        # Other programs may write versions without this file. The SHA-256 of their manifests is not checked.
        if exists_beneath(self.root, digest) and read_beneath(self.root, digest, len(line)) != line:
            raise CorruptError(f"{name} has another SHA-256 than manifest.sha256; publish the version again", "sha256")
        return manifest, content

    def signature(self, task: str, version: int) -> bytes | None:
        """The content of `manifest.sig` of a version, or None if it is not signed. Raises CorruptError."""
        name = f"tasks/{task}/{version}/manifest.sig"
        return read_beneath(self.root, name, SIGNATURE_BYTES) if exists_beneath(self.root, name) else None

    def openssf_signature(self, task: str, version: int) -> bytes | None:
        """The content of `model.sig` of a version, or None if it has none. Raises CorruptError."""
        name = f"tasks/{task}/{version}/{OPENSSF_SIGNATURE}"
        return read_beneath(self.root, name, MAX_OPENSSF_BYTES) if exists_beneath(self.root, name) else None

    def stamp(self, task: str, version: int) -> tuple[int, ...] | None:
        """A value that changes if the manifest of a version may have changed; None if there is none.

        Raises CorruptError.
        """
        name = f"tasks/{task}/{version}/manifest.json"
        try:
            return stamp_of((self.root / name).lstat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(name, error) from error

    def check(self, blobs: Iterable[Blob]) -> None:
        """Find a missing, shorter, longer or unreadable blob without reading any. Raises CorruptError.

        A blob whose content was found damaged counts as damaged until it changes, or for 30 seconds.
        """
        for blob in blobs:
            name = f"blobs/sha256/{blob.sha256}"
            status = stat_beneath(self.root, name, blob.size)
            if status.st_size != blob.size:
                raise _wrong_size(name, status.st_size, blob)
            stamp, again = self._damaged.get(blob.sha256, ((), 0.0))
            if stamp == stamp_of(status) and time.monotonic() < again:
                raise _wrong_content(name)

    def read(self, blob: Blob) -> bytes:
        """The bytes of a blob. Raises CorruptError if their number or SHA-256 differs from the blob's."""
        name = f"blobs/sha256/{blob.sha256}"
        stamp = stamp_of(stat_beneath(self.root, name, blob.size))
        data = read_beneath(self.root, name, blob.size)
        if len(data) != blob.size:
            raise _wrong_size(name, len(data), blob)
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            self._damaged[blob.sha256] = stamp, time.monotonic() + _DAMAGED_SECONDS
            raise _wrong_content(name)
        return data

    def open(self, blob: Blob) -> BufferedReader:
        """A blob to read in pieces. Its content is not checked. Raises CorruptError."""
        return open_beneath(self.root, f"blobs/sha256/{blob.sha256}", blob.size)

    def holds(self, blob: Blob) -> bool:
        """Whether the store has a blob, undamaged. It is read in pieces, so it may be larger than the memory."""
        try:
            with self.open(blob) as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == blob.sha256
        except (CorruptError, OSError):  # missing or damaged
            return False

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
            cure = f"`mora-store sign {task} --version {version} --key KEY --store {quoted(self.root)}` signs it"
            raise UntrustedError(f"{task} version {version} is not signed; {cure}")
        if trusted.signer(content, signature) is None:
            message = f"{task} version {version} is signed by no trusted key, or was changed after it was signed"
            raise UntrustedError(f"{message}; publish the version again, or sign it with a trusted key")

    def _task_folder(self, task: str) -> Path:
        if not re.fullmatch(TASK_NAME, task):
            raise NotFoundError("a task name has up to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit")
        folder = self.root / "tasks" / task
        if not is_folder_beneath(self.root, f"tasks/{task}"):
            raise NotFoundError(f"no task {task} in {self.root}; it has {_listed(self.tasks())}")
        return folder


def parse_manifest(content: bytes, name: str) -> Manifest:
    """The manifest in these bytes. Raises CorruptError, which names the file, if they are no manifest of a version."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise CorruptError(f"{name} {_problem(error)}; publish the version again", "manifest") from error
    if not _VERSION.fullmatch(str(manifest.version)):
        problem = f"{name} is not a valid manifest: version: has more than 18 digits"
        raise CorruptError(f"{problem}; publish the version again", "manifest")
    return manifest


def _wrong_size(name: str, size: int, blob: Blob) -> CorruptError:
    return CorruptError(f"{name} has {size} bytes, expected {blob.size}; publish the version again", "size")


def _wrong_content(name: str) -> CorruptError:
    return CorruptError(f"{name} has another SHA-256 than its name; publish the version again", "sha256")


def _problem(error: ValidationError) -> str:
    for problem in error.errors():
        if problem["loc"] == ("schema_version",):
            schema = problem["input"]
            number = f" {schema}" if isinstance(schema, int) and 0 <= schema < 1000 else ""
            return f"has the format (schema_version{number}) of another release of this program; this one reads 1 and 2"
    return f"is not a valid manifest: {'; '.join(describe_validation_error(error)[:3])}"


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names)) or "none"
