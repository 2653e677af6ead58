"""Signatures of versions, signing keys and trusted keys. A signature is Ed25519 over the bytes of a manifest.

A manifest names its task, its version and the SHA-256 of every blob, so its signature covers the whole version and no
other version. `manifest.sig` contains the 64 raw bytes of the signature. OpenSSL can make and check such files too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
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
_KEYGEN = "`mora-store keygen` creates one"
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class TrustedKeys:
    """Public keys. A version is trusted if one of them signed it."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {fingerprint(key): key for key in keys}

    def signer(self, manifest: bytes, signature: bytes) -> str | None:
        """The fingerprint of the key that made this signature of a manifest, or None if it is another key."""
        for name, key in self._keys.items():
            with suppress(InvalidSignature):
                key.verify(signature, manifest)
                return name
        return None


def fingerprint(key: Ed25519PublicKey) -> str:
    """The SHA-256 of a key in DER form, as `openssl pkey -pubin -outform DER | sha256sum` prints it."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_trusted_keys(path: Path | None) -> TrustedKeys | None:
    """The public keys of a file of PEM blocks, or None without a path: no signature is required then.

    The file may contain empty lines and `#` comments between the blocks.

    Raises:
        StoreError: the file has no key, or has content other than Ed25519 public keys. The message names the line, but
            not its content.
        OSError: the file cannot be read.
    """
    if path is None:
        return None
    keys: list[Ed25519PublicKey] = []
    block: list[str] = []
    first_line = 0
    for number, line in enumerate(path.read_bytes().decode("ascii", "replace").splitlines(), start=1):
        text = line.strip()
        if not block:
            if not text or text.startswith("#"):
                continue
            if text != _BEGIN:
                cure = "copy only the KEY.pub files of `mora-store keygen` into it"
                raise StoreError(f"{path}, line {number}: a key must begin with {_BEGIN}; {cure}")
            first_line = number
        block.append(text)
        if text == _END:
            keys.append(_public_key("\n".join(block), f"{path}, line {first_line}"))
            block = []
    if block:
        raise StoreError(f"{path}, line {first_line}: the key that begins here has no end; copy it again, up to {_END}")
    if not keys:
        raise StoreError(f"{path} holds no public key; copy the KEY.pub of `mora-store keygen` into it")
    return TrustedKeys(keys)


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file. Raises StoreError for an invalid key, OSError if the file cannot be read."""
    key = read_private_key(path, _KEYGEN)
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path} holds a key that is not Ed25519; {_KEYGEN}")
    return key


def read_private_key(path: Path, cure: str, program: str = "pkey") -> PrivateKeyTypes:
    """A private key of any kind from a PEM file. Raises as `read_signing_key`.

    Args:
        cure: how to create a key.
        program: of OpenSSL, for keys of this kind.
    """
    content = path.read_bytes()
    try:
        return load_pem_private_key(content, password=None)
    except TypeError as error:  # the key needs a password
        raise StoreError(
            f"{path} is encrypted; `openssl {program} -in {path} -out KEY` writes it without a password"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{path} holds no private key in PEM; {cure}") from error


def make_key_pair(private: Path, public: Path) -> str:
    """Write a new pair of keys in PEM and return the fingerprint. Only the owner can read the private key.

    Raises FileExistsError if one of the files exists: a key is never replaced.
    """
    if public.exists():
        raise FileExistsError(f"{public} exists, and a key is never replaced; choose another name")
    key = Ed25519PrivateKey.generate()
    name = fingerprint(key.public_key())
    _create(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(public, f"# {name}\n".encode() + pem, 0o644)
    return name


def _public_key(pem: str, source: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{source}: this is not a public key in PEM; copy it again from KEY.pub") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"{source}: this key is not Ed25519; `mora-store keygen` creates one")
    return key


def _create(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
