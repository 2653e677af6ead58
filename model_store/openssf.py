"""Signatures in the OpenSSF Model Signing format, which `model_signing` and other tools verify.

`model.sig` in a version's folder signs the SHA-256 of the manifest and of each blob, by their paths in the store.
Services trust `manifest.sig` only (`model_store/signing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from model_store.errors import StoreError
from model_store.manifest import Manifest
from model_store.publishing import attach
from model_store.signing import read_private_key
from model_store.store import OPENSSF_SIGNATURE, Store

if TYPE_CHECKING:
    from model_signing.manifest import Manifest as SignedFiles

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MAKE_KEY = "`openssl ecparam -name prime256v1 -genkey -noout -out KEY` creates one"


def sign_openssf(store: Store, task: str, version: int | None, key: Path) -> Manifest:
    """Verify a published version, by default the live one, then write its `model.sig`. An existing one is replaced.

    Args:
        key: a private key in PEM on one of the curves P-256, P-384 and P-521, without a password.

    Raises:
        StoreError: the version is damaged, the key is not of that kind, or the extra `signing` is not installed.
        OSError: the key cannot be read.
    """
    _check_key(key)
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        cure = "install it: pip install 'mora-serve[signing]'"
        raise StoreError(f"the OpenSSF format needs the package model-signing ({error}); {cure}") from error

    class OfVersion(hashing.Config):  # a signer asks for the whole folder
        def hash(self, model_path: Any, *, files_to_hash: Iterable[Any] | None = None) -> SignedFiles:  # noqa: ANN401
            return super().hash(model_path, files_to_hash=paths if files_to_hash is None else files_to_hash)

    def made(manifest: Manifest, _: bytes) -> bytes:
        blobs = {blob.sha256 for blob in manifest.blobs()}
        names = [f"tasks/{task}/{manifest.version}/manifest.json", *(f"blobs/sha256/{each}" for each in sorted(blobs))]
        paths.extend(store.root / name for name in names)
        of_version = OfVersion()  # type: ignore[no-untyped-call]
        signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(of_version)
        with TemporaryDirectory() as folder:
            signature = Path(folder) / OPENSSF_SIGNATURE
            signer.sign(store.root, signature)
            return signature.read_bytes()

    paths: list[Path] = []
    return attach(store, task, version, OPENSSF_SIGNATURE, made)


def _check_key(path: Path) -> None:
    key = read_private_key(path, _MAKE_KEY, program="ec")
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise StoreError(f"{path} holds a key that is not on P-256, P-384 or P-521; {_MAKE_KEY}")
