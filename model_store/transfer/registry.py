"""A repository of an OCI registry: one image manifest for a version, one layer for each of its files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from contextlib import closing
from http import HTTPStatus
from typing import Annotated, BinaryIO, Literal
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, Field, ValidationError

from model_store.files import blob_of
from model_store.manifest import Blob, Manifest
from model_store.signing import SIGNATURE_BYTES
from model_store.store import MAX_MANIFEST_BYTES, MAX_OPENSSF_BYTES, OPENSSF_SIGNATURE
from model_store.transfer.http_answers import pieces_of, read_all
from model_store.transfer.registry_connection import Body, RegistryConnection
from model_store.transfer.registry_reference import RegistryReference
from model_store.transfer.remote import Advance, SignedManifest, TransferError
from model_store.transfer.steady import from_byte, whole

IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.mora-serve.version.v1"
MANIFEST, SIGNATURE = "application/vnd.mora-serve.manifest.v1+json", "application/vnd.mora-serve.signature.v1"
OPENSSF = "application/vnd.dev.sigstore.bundle.v0.3+json"
_FILE = "application/octet-stream"
_EMPTY_TYPE, _EMPTY = "application/vnd.oci.empty.v1+json", b"{}"  # the config of an artifact that has none
_TITLE = "org.opencontainers.image.title"


class Descriptor(BaseModel):
    """A file of a version in a registry."""

    mediaType: str  # noqa: N815 - the names of the OCI specification
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=1)]
    annotations: dict[str, str] = {}  # the title is the file's name in a store; it is written, and never read

    @classmethod
    def of(cls, media_type: str, blob: Blob, title: str | None = None) -> Descriptor:
        """The descriptor of a blob."""
        annotations = {} if title is None else {_TITLE: title}
        return cls(mediaType=media_type, digest=f"sha256:{blob.sha256}", size=blob.size, annotations=annotations)

    def blob(self) -> Blob:
        """The digest and size of the file."""
        return Blob(sha256=self.digest.removeprefix("sha256:"), size=self.size)


class ImageManifest(BaseModel):
    """What a tag of a registry points to."""

    schemaVersion: Literal[2] = 2  # noqa: N815
    mediaType: str = IMAGE_MANIFEST  # noqa: N815
    artifactType: str = ARTIFACT  # noqa: N815
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] = {}


class Registry:
    """The version that a tag of a registry, or the digest of an image manifest, points to."""

    def __init__(self, name: str, reference: RegistryReference, *, plain_http: bool) -> None:
        self.name = name
        self.task: str | None = None  # a tag may point to any
        self._reference = reference
        self._connection = RegistryConnection(reference.host, reference.repository, plain_http=plain_http)
        self._last: tuple[bytes, SignedManifest] | None = None  # the image manifest and the version that it describes

    def current(self, task: str | None) -> SignedManifest | None:
        """The version that the tag points to; None if there is no such tag."""
        content = self._image_manifest()
        if content is None:
            return None
        if self._last is None or self._last[0] != content:
            self._last = content, self._version(content)
        return self._last[1]

    def pinned(self) -> str:
        """The target with the digest in place of the tag; as it is if there is no such tag."""
        content = self._image_manifest()
        if content is None:
            return self.name
        return f"oci://{self._reference.host}/{self._reference.repository}@{_digest(content)}"

    def has(self, blob: Blob) -> bool:
        """Whether the repository has a blob."""
        response = self._connection.send("HEAD", f"blobs/sha256:{blob.sha256}")
        return response.status == HTTPStatus.OK and response.headers.get("Content-Length", str(blob.size)) == str(
            blob.size
        )

    def fetch(self, blob: Blob, offset: int) -> Generator[bytes, None, None]:
        """The bytes of a blob from `offset` on."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._connection.request("GET", f"blobs/sha256:{blob.sha256}", headers=headers)
        if response.status == HTTPStatus.NOT_FOUND:
            response.close()
            raise TransferError(f"{self.name} lacks blob {blob.sha256} of the version; push the version again")
        skipped = 0 if response.status == HTTPStatus.PARTIAL_CONTENT else offset
        try:
            yield from from_byte(skipped, pieces_of(response, self.name), self.name)
        finally:
            response.close()

    def add(self, blob: Blob, file: BinaryIO, advance: Advance) -> None:
        """Upload a blob, which the registry verifies before it keeps it."""
        response = self._connection.send("POST", "blobs/uploads/")
        if response.status != HTTPStatus.ACCEPTED:
            raise TransferError(f"{self.name} takes no uploads ({response.status}); correct the target")
        address = self._connection.location(response)
        joiner = "&" if urlsplit(address).query else "?"
        address = f"{address}{joiner}{urlencode({'digest': f'sha256:{blob.sha256}'})}"
        body = Body(_Counted(file, advance), blob.size)
        response = self._connection.send("PUT", address, content_type=_FILE, body=body)
        if response.status != HTTPStatus.CREATED:
            raise TransferError(f"{self.name} did not keep a blob ({response.status}); see the log of the registry")

    def publish(self, manifest: Manifest, signed: SignedManifest) -> None:
        """Upload the version's own files, then move the tag."""
        if self._reference.is_digest:
            raise TransferError(f"{self.name} is a digest, which cannot be moved; push to a tag")
        folder = f"tasks/{manifest.task}/{manifest.version}"
        own = [(MANIFEST, f"{folder}/manifest.json", signed.content)]
        if signed.signature is not None:
            own.append((SIGNATURE, f"{folder}/manifest.sig", signed.signature))
        if signed.openssf is not None:
            own.append((OPENSSF, f"{folder}/{OPENSSF_SIGNATURE}", signed.openssf))
        own.append((_FILE, f"tasks/{manifest.task}/live", f"{manifest.version}\n".encode()))
        for content in [_EMPTY, *(content for _, _, content in own)]:
            blob = blob_of(content)
            if not self.has(blob):
                self.add(blob, io.BytesIO(content), lambda count: None)
        layers = [Descriptor.of(kind, blob_of(content), title) for kind, title, content in own]
        layers += [Descriptor.of(_FILE, blob, f"blobs/sha256/{blob.sha256}") for blob in manifest.blobs()]
        image = ImageManifest(
            config=Descriptor.of(_EMPTY_TYPE, blob_of(_EMPTY)),
            layers=layers,
            annotations={_TITLE: manifest.task, "org.opencontainers.image.version": str(manifest.version)},
        ).model_dump_json()
        body = Body(io.BytesIO(image.encode()), len(image.encode()))
        response = self._connection.send(
            "PUT", f"manifests/{self._reference.tag}", content_type=IMAGE_MANIFEST, body=body
        )
        if response.status != HTTPStatus.CREATED:
            raise TransferError(
                f"{self.name} did not keep the version ({response.status}); see the log of the registry"
            )

    def close(self) -> None:
        """Close the idle connections."""
        self._connection.close()

    def _image_manifest(self) -> bytes | None:
        response = self._connection.request(
            "GET", f"manifests/{self._reference.tag}", headers={"Accept": IMAGE_MANIFEST}
        )
        content = read_all(response, MAX_MANIFEST_BYTES, self.name)
        if response.status == HTTPStatus.NOT_FOUND:
            return None
        if self._reference.is_digest and _digest(content) != self._reference.tag:
            raise TransferError(f"{self.name} has another digest than it was asked for; see the log of the registry")
        return content

    def _version(self, content: bytes) -> SignedManifest:
        try:
            layers = ImageManifest.model_validate_json(content).layers
        except ValidationError:
            layers = []
        manifest = self._small(layers, MANIFEST, MAX_MANIFEST_BYTES)
        if manifest is None:
            raise TransferError(f"{self.name} is no version of mora-serve, but another image; correct the target")
        signature = self._small(layers, SIGNATURE, SIGNATURE_BYTES)
        return SignedManifest(manifest, signature, self._small(layers, OPENSSF, MAX_OPENSSF_BYTES))

    def _small(self, layers: list[Descriptor], kind: str, max_bytes: int) -> bytes | None:
        """The verified content of the first layer of a kind."""
        blob = next((layer.blob() for layer in layers if layer.mediaType == kind), None)
        if blob is None:
            return None
        if blob.size > max_bytes:
            raise TransferError(f"{self.name} has a {kind} of {blob.size:,} bytes, more than {max_bytes:,}")
        with closing(self.fetch(blob, 0)) as pieces:
            content = whole(pieces, blob.size, f"blob {blob.sha256} at {self.name}")
        if blob_of(content or b" ") != blob:
            raise TransferError(f"{self.name} sent other bytes than blob {blob.sha256} has; push the version again")
        return content


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Counted:
    """A file whose reads are counted."""

    def __init__(self, file: BinaryIO, advance: Advance) -> None:
        self._file, self._advance = file, advance

    def read(self, size: int = -1, /) -> bytes:
        piece = self._file.read(size)
        self._advance(len(piece))
        return piece

    def seek(self, offset: int, /) -> int:
        return self._file.seek(offset)
