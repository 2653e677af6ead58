"""Signatures in the OpenSSF Model Signing format are verified by that project's own command."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from typer.testing import CliRunner

from model_store import Store, publish
from model_store.cli import app

CURVES = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]


def write_keys(folder: Path, key, encryption=NoEncryption()) -> Path:  # noqa: B008
    """`ec.pem`, with `ec.pub` beside it."""
    (folder / "ec.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "ec.pub").write_bytes(public)
    return folder / "ec.pem"


@pytest.fixture
def key(tmp_path):
    return write_keys(tmp_path, ec.generate_private_key(CURVES[0]))


@pytest.fixture
def version(store, draft) -> Path:
    """The folder of a published version."""
    manifest = publish(store, *draft())
    return store.root / "tasks" / manifest.task / str(manifest.version)


def sign(store: Store, version: Path, key: Path) -> str:
    """What the command prints."""
    arguments = ["sign", version.parent.name, "--openssf", "--key", str(key), "--store", str(store.root)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "300"}).output


def verifies(store: Store, version: Path, public: Path) -> bool:
    """Whether the command of the format accepts the signature."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(store.root), "--ignore_unsigned_files"]
    command += ["--signature", str(version / "model.sig"), "--public_key", str(public)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
@pytest.mark.slow
def test_a_signed_version_is_verified(store, version, tmp_path, curve):
    key = write_keys(tmp_path, ec.generate_private_key(curve))
    assert f"is signed; wrote tasks/{version.parent.name}/1/model.sig" in sign(store, version, key)
    assert verifies(store, version, key.with_suffix(".pub"))


@pytest.mark.parametrize("part", ["manifest", "head", "graph", "missing blob"])
@pytest.mark.slow
def test_what_was_changed_after_signing_is_found(store, version, key, part):
    sign(store, version, key)
    manifest = store.manifest(version.parent.name)
    graph = manifest.graphs["fp32"].image_tail
    blobs = {"head": manifest.head, "graph": graph, "missing blob": graph}
    path = version / "manifest.json" if part == "manifest" else store.root / "blobs" / "sha256" / blobs[part].sha256
    path.chmod(0o644)
    if part == "missing blob":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert not verifies(store, version, key.with_suffix(".pub"))


def test_another_key_and_another_version_are_refused(store, version, draft, key, tmp_path):
    sign(store, version, key)
    (tmp_path / "other").mkdir()
    other = write_keys(tmp_path / "other", ec.generate_private_key(CURVES[0]))
    assert not verifies(store, version, other.with_suffix(".pub"))
    number = publish(store, *draft()).version
    sign(store, version.with_name(str(number)), key)  # the live one
    resources = [
        json.loads(b64decode(json.loads((folder / "model.sig").read_text())["dsseEnvelope"]["payload"]))
        for folder in (version, version.with_name(str(number)))
    ]
    first, second = ({each["name"] for each in resource["predicate"]["resources"]} for resource in resources)
    assert first ^ second == {f"tasks/{version.parent.name}/{each}/manifest.json" for each in (1, number)}


@pytest.mark.parametrize(
    ("key_of", "says"),
    [
        (lambda folder: write_keys(folder, Ed25519PrivateKey.generate()), "a key that is not on P-256, P-384 or P-521"),
        (lambda folder: write_keys(folder, ec.generate_private_key(ec.SECP256K1())), "is not on P-256, P-384 or P-521"),
        (
            lambda folder: write_keys(folder, ec.generate_private_key(CURVES[0]), BestAvailableEncryption(b"secret")),
            "is encrypted; `openssl ec -in ",
        ),
        (lambda folder: write_keys(folder, ec.generate_private_key(CURVES[0])).with_suffix(".pub"), "no private key"),
    ],
    ids=["Ed25519", "another curve", "encrypted", "public"],
)
def test_a_key_of_another_kind_is_refused_with_its_cure(store, version, tmp_path, key_of, says):
    assert says in sign(store, version, key_of(tmp_path))
    assert not (version / "model.sig").exists()


def test_without_the_package_the_cure_is_named(store, version, key, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert "pip install 'mora-serve[signing]'" in sign(store, version, key)


def test_a_damaged_version_is_not_signed(store, version, key):
    blob = store.root / "blobs" / "sha256" / store.manifest(version.parent.name).head.sha256
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert blob.name in sign(store, version, key)
    assert not (version / "model.sig").exists()
