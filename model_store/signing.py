"""Who made a version: an Ed25519 signature over the bytes of its manifest, and the keys that are trusted to sign.

A manifest names its task, its version and the SHA-256 of every blob, so its signature covers all of the version and no
other. `manifest.sig` holds the 64 bytes as they are, so that OpenSSL can make and check them too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from model_store.errors import StoreError

SIGNATURE_BYTES = 64
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class TrustedKeys:
    """The public keys whose signature a version needs, any one of them."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {fingerprint(key): key for key in keys}

    def signer(self, manifest: bytes, signature: bytes) -> str | None:
        """The fingerprint of the key that made this signature of a manifest, None if none of these did."""
        return next((name for name, key in self._keys.items() if _has_signed(key, manifest, signature)), None)


def fingerprint(key: Ed25519PublicKey) -> str:
    """What a key is called: the SHA-256 of its DER form, as `openssl pkey -pubin -outform DER | sha256sum` prints."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_trusted_keys(path: Path | None) -> TrustedKeys | None:
    """The public keys of a file: PEM blocks one after another, between which are empty lines and `#` comments.

    None where no file is named, and so no signature is asked for.

    Raises:
        StoreError: there is no key, or something else than Ed25519 public keys; names the line, never what it holds.
        OSError: the file cannot be read.
    """
    if path is None:
        return None
    keys: list[Ed25519PublicKey] = []
    block: list[str] = []
    begun = 0
    for number, line in enumerate(path.read_bytes().decode("ascii", "replace").splitlines(), start=1):
        text = line.strip()
        if not block:
            if not text or text.startswith("#"):
                continue
            if text != _BEGIN:
                cure = "put only what `mora-store keygen` wrote to KEY.pub into it"
                raise StoreError(f"{path}, line {number}: where a key begins there must be {_BEGIN}; {cure}")
            begun = number
        block.append(text)
        if text == _END:
            keys.append(_public_key("\n".join(block), f"{path}, line {begun}"))
            block = []
    if block:
        raise StoreError(f"{path}, line {begun}: the key that begins here has no end; copy it again, to {_END}")
    if not keys:
        raise StoreError(f"{path} holds no public key; put into it what `mora-store keygen` wrote to KEY.pub")
    return TrustedKeys(keys)


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file. Raises StoreError when it holds anything else, OSError when it cannot be read."""
    content = path.read_bytes()
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as error:  # it wants a password
        raise StoreError(
            f"{path} is encrypted; `openssl pkey -in {path} -out KEY` writes it without a password"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{path} holds no private key in PEM; `mora-store keygen` makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path} holds a key of another kind than Ed25519; `mora-store keygen` makes one")
    return key


def make_key_pair(private: Path, public: Path) -> str:
    """Write a new pair of keys in PEM, the private one for its owner alone; the fingerprint.

    Raises FileExistsError rather than replace a key.
    """
    if public.exists():
        raise FileExistsError(f"{public} is there already, and a key is never replaced; choose another name")
    key = Ed25519PrivateKey.generate()
    name = fingerprint(key.public_key())
    _create(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(public, f"# {name}\n".encode() + pem, 0o644)
    return name


def _has_signed(key: Ed25519PublicKey, manifest: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        return False
    return True


def _public_key(pem: str, place: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{place}: this is not a public key in PEM; copy it again from KEY.pub") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"{place}: this key is of another kind than Ed25519; `mora-store keygen` makes one")
    return key


def _create(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
