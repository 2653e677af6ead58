"""A store in a repository of models on the Hugging Face hub, or on a server with the same API (HF_ENDPOINT)."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from model_store.manifest import Blob, Manifest
from model_store.transfer.http_answers import describe
from model_store.transfer.remote import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Advance,
    SignedManifest,
    TransferError,
    UnreachableError,
)
from model_store.transfer.steady import from_byte, whole
from model_store.transfer.store_layout import blob_name, live_version, new_files, one_task

if TYPE_CHECKING:
    from httpx2 import Response
    from huggingface_hub import CommitOperationAdd, HfApi

_SECONDS = (CONNECT_SECONDS, READ_SECONDS, READ_SECONDS, CONNECT_SECONDS)  # connect, read, write, a free connection
_MAX_LIST_BYTES = 1024 * 1024


class Hub:
    """The live version of one task of a store in a repository. A push is one commit.

    The token comes from HF_TOKEN or from `hf auth login`.
    """

    def __init__(self, name: str, repository: str, task: str | None) -> None:
        self.name = name
        self.task = task
        self._repository = repository
        self._api = _api(name)
        self._added: list[CommitOperationAdd] = []
        self._lock = threading.Lock()

    def current(self, task: str | None) -> SignedManifest | None:
        """The live version; None if there is no such task, or no live version."""
        task = task or one_task(self.name, self._tasks())
        return None if task is None else live_version(self.name, task, self._read)

    def pinned(self) -> str:
        """The target: `live` of a repository may change."""
        return self.name

    def has(self, blob: Blob) -> bool:
        """Whether the repository has a file of the blob's name and size."""
        try:
            with self._answer("HEAD", self._url(blob_name(blob)), follow_redirects=False) as response:
                headers = response.headers
        except FileNotFoundError:
            return False
        return str(blob.size) == headers.get("X-Linked-Size", headers.get("Content-Length"))

    def fetch(self, blob: Blob, offset: int) -> Generator[bytes, None, None]:
        """The bytes of a blob from `offset` on."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._answer("GET", self._url(blob_name(blob)), headers=headers) as response:
                skipped = 0 if response.status_code == HTTPStatus.PARTIAL_CONTENT else offset
                yield from from_byte(skipped, response.iter_raw(), self.name)
        except FileNotFoundError:
            raise TransferError(f"{self.name} lacks blob {blob.sha256} of the version; push it again") from None

    def add(self, blob: Blob, file: BinaryIO, advance: Advance) -> None:
        """Upload a blob, if the hub takes it as a large file; a small one goes with the commit of `publish`."""
        from huggingface_hub import CommitOperationAdd

        with self._errors(), self._upload_errors():
            operation = CommitOperationAdd(path_in_repo=blob_name(blob), path_or_fileobj=file)
            self._api.preupload_lfs_files(self._repository, additions=[operation])
            if not isinstance(operation.path_or_fileobj, bytes):  # not uploaded, and the file will be closed
                file.seek(0)
                operation = CommitOperationAdd(path_in_repo=blob_name(blob), path_or_fileobj=file.read())
        advance(blob.size)
        with self._lock:
            self._added.append(operation)

    def publish(self, manifest: Manifest, signed: SignedManifest) -> None:
        """Commit the added blobs, the version's own files and `live` at once."""
        from huggingface_hub import CommitOperationAdd

        files = new_files(self.name, manifest, signed, self._read)
        own = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
        message = f"{manifest.task}: version {manifest.version}"
        with self._errors(), self._upload_errors():
            self._api.create_commit(self._repository, [*self._added, *own], commit_message=message)

    def close(self) -> None:
        """Nothing to release: the library keeps its connections for later calls."""

    def _url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self._repository, name)

    def _read(self, name: str, max_bytes: int) -> bytes | None:
        return self._content(self._url(name), name, max_bytes)

    def _tasks(self) -> list[str]:
        url = f"{self._api.endpoint}/api/models/{self._repository}/tree/main/tasks"
        content = self._content(url, "the list of tasks", _MAX_LIST_BYTES)
        try:
            return [] if content is None else [str(entry["path"]).rpartition("/")[2] for entry in json.loads(content)]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise TransferError(f"{self.name} does not answer like the hub (tree); see HF_ENDPOINT") from None

    def _content(self, url: str, name: str, max_bytes: int) -> bytes | None:
        try:
            with self._answer("GET", url) as response:
                return whole(response.iter_raw(), max_bytes, f"{name} at {self.name}")
        except FileNotFoundError:
            return None

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: dict[str, str] | None = None, *, follow_redirects: bool = True
    ) -> Iterator[Response]:
        """The answer to a request; the library leaves its token out where a redirect leads to another host."""
        from huggingface_hub import get_session, get_token, hf_raise_for_status

        token = get_token()
        own = {} if token is None else {"Authorization": f"Bearer {token}"}
        own |= {"Accept-Encoding": "identity", **(headers or {})}
        with (
            self._errors(),
            get_session().stream(
                method, url, headers=own, timeout=_SECONDS, follow_redirects=follow_redirects
            ) as response,
        ):
            if not response.has_redirect_location or follow_redirects:
                hf_raise_for_status(response)
            yield response

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the library's errors, whose messages have addresses and answers in them, into one line.

        A file that does not exist raises FileNotFoundError.
        """
        from httpx2 import HTTPError
        from huggingface_hub import errors

        try:
            yield
        except (errors.EntryNotFoundError, errors.RevisionNotFoundError):
            raise FileNotFoundError from None
        except errors.OfflineModeIsEnabled:
            raise TransferError(f"{self.name} is not asked, because HF_HUB_OFFLINE is set; unset it") from None
        except errors.RepositoryNotFoundError:
            cure = "create it on the hub, or set HF_TOKEN to a token with access"
            raise TransferError(f"{self.name} does not exist, or is hidden from this token; {cure}") from None
        except errors.HfHubHTTPError as error:
            raise self._refusal(error.response.status_code) from None
        except (HTTPError, OSError) as error:
            raise UnreachableError(f"{self.name} gives no whole answer: {describe(error)}") from None

    @contextmanager
    def _upload_errors(self) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except RuntimeError as error:  # of a large file; the library puts the answer into its cause
            if isinstance(error.__cause__, HfHubHTTPError):
                raise self._refusal(error.__cause__.response.status_code) from None
            raise UnreachableError(f"{self.name} did not take a large file; run this again") from None
        except (ValueError, LookupError, TypeError):  # an answer of the hub that its library does not understand
            raise TransferError(f"{self.name} does not take the upload; see whether the hub has space for it") from None

    def _refusal(self, status: int) -> TransferError:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            cure = "set HF_TOKEN to a token with access (push needs write access)"
            return TransferError(f"{self.name} refuses access ({status}); {cure}")
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return UnreachableError(f"{self.name} answers {status}; run this again later")
        return TransferError(f"{self.name} answers {status}; correct the target")


def _api(name: str) -> HfApi:
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ModuleNotFoundError:
        problem = f"{name} needs huggingface_hub"
        raise TransferError(f"{problem}; install it: pip install 'mora-serve[transfer]'") from None
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings are about its own choices
    return HfApi()
