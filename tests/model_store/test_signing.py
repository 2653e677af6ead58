"""Keys, signatures and their commands; a running service is in tests/faults/store/test_provenance.py."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from typer.testing import CliRunner

from model_store import Store, StoreError, UntrustedError, publish, read_signing_key, read_trusted_keys, rollback, sign
from model_store.cli import app
from model_store.signing import fingerprint, make_key_pair

BEGIN = "-----BEGIN PUBLIC KEY-----"


def pem(key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The private key; the public one is beside it."""
    path = tmp_path / "release"
    make_key_pair(path, tmp_path / "release.pub")
    return path


@pytest.fixture
def trusted(key: Path) -> Path:
    return Path(f"{key}.pub")


@pytest.fixture
def run(store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*arguments, env=None):
        return CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)], env=env)

    return invoke


def trusting(store: Store, keys: Path) -> Store:
    return Store(store.root, read_trusted_keys(keys))


def test_a_version_is_signed_as_it_is_published(store, draft, key, trusted):
    manifest = publish(store, *draft(), signing_key=read_signing_key(key))

    assert trusting(store, trusted).verify("fruit") == manifest
    folder = store.root / "tasks/fruit/1"
    public = load_pem_public_key(trusted.read_bytes())  # as any other program would check it
    public.verify((folder / "manifest.sig").read_bytes(), (folder / "manifest.json").read_bytes())


def test_an_unsigned_version_is_refused_until_it_is_signed(store, draft, key, trusted):
    publish(store, *draft())

    with pytest.raises(
        UntrustedError, match="fruit version 1 is not signed; `mora-store sign fruit --version 1 --key KEY"
    ):
        trusting(store, trusted).manifest("fruit")
    assert store.manifest("fruit").version == 1, "no signature is required"

    sign(store, "fruit", None, read_signing_key(key))
    assert trusting(store, trusted).verify("fruit").version == 1
    assert list((store.root / ".staging").iterdir()) == []


def test_a_forged_manifest_is_refused_before_it_is_parsed(store, draft, key, trusted):
    publish(store, *draft(), signing_key=read_signing_key(key))
    (store.root / "tasks/fruit/1/manifest.json").write_text("{")

    with pytest.raises(UntrustedError, match="was changed after it was signed"):
        trusting(store, trusted).manifest("fruit")


def test_a_signature_by_any_of_several_keys_is_trusted(store, draft, key, trusted, tmp_path):
    make_key_pair(tmp_path / "next", tmp_path / "next.pub")
    both = tmp_path / "both.pem"
    both.write_text(f"# old\n\n{trusted.read_text()}\r\n# new\r\n{(tmp_path / 'next.pub').read_text()}")
    publish(store, *draft(), signing_key=read_signing_key(key))
    publish(store, *draft(tail="second"), signing_key=read_signing_key(tmp_path / "next"))

    assert [trusting(store, both).verify("fruit", version).version for version in (1, 2)] == [1, 2]
    with pytest.raises(UntrustedError):
        trusting(store, tmp_path / "next.pub").verify("fruit", 1)

    sign(store, "fruit", 1, read_signing_key(tmp_path / "next"))
    assert trusting(store, tmp_path / "next.pub").verify("fruit", 1).version == 1


def test_a_damaged_version_is_not_signed(store, draft, key):
    manifest = publish(store, *draft())
    head = store.root / "blobs/sha256" / manifest.head.sha256
    head.write_bytes(head.read_bytes()[::-1])

    with pytest.raises(StoreError, match="another SHA-256"):
        sign(store, "fruit", 1, read_signing_key(key))
    assert store.signature("fruit", 1) is None


EC = generate_private_key(SECP256R1())
ED = Ed25519PrivateKey.generate()
UNUSABLE = {
    "empty": ("", "holds no public key"),
    "comments alone": ("# ours\n\n", "holds no public key"),
    "garbage": ("secret\n", f"line 1: a key must begin with {BEGIN}"),
    "binary": ("\0\xff\n", "line 1: a key must begin with"),
    "a private key": (
        ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "line 1: a key must begin with",
    ),
    "garbage after a key": (f"{pem(ED)}secret\n", "line 4: a key must begin with"),
    "no end": (f"# ours\n{pem(ED)[:60]}\n", "line 2: the key that begins here has no end"),
    "no end before the next": (f"{pem(ED)[:60]}\n{pem(ED)}", "line 1: this is not a public key in PEM"),
    "a changed letter": (pem(ED).replace("MCow", "MC!w"), "line 1: this is not a public key in PEM"),
    "another kind": (f"{pem(ED)}{pem(EC)}", "line 4: this key is not Ed25519"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_invalid_file_of_keys_is_an_error_that_names_the_line(tmp_path, name):
    content, problem = UNUSABLE[name]
    path = tmp_path / "keys.pem"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(StoreError) as caught:
        read_trusted_keys(path)

    assert f"{path}" in str(caught.value)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no private key"),
        (b"\0\xff", "holds no private key"),
        (pem(ED).encode(), "holds no private key"),
        (EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "holds a key that is not Ed25519"),
        (ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")), "is encrypted"),
    ],
)
def test_an_invalid_signing_key_is_one_line_of_error(store, draft, run, tmp_path, content, problem):
    publish(store, *draft())
    (tmp_path / "key").write_bytes(content)

    result = run("sign", "fruit", "--key", tmp_path / "key")

    assert result.exit_code == 1
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1
    assert store.signature("fruit", 1) is None


def test_keygen_writes_a_private_key_that_others_cannot_read(tmp_path):
    key, public = tmp_path / "key", tmp_path / "key.pub"
    before = os.umask(0)
    try:
        result = CliRunner().invoke(app, ["keygen", str(key)])
    finally:
        os.umask(before)

    assert result.exit_code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    name = fingerprint(read_signing_key(key).public_key())
    assert name in result.stdout
    assert public.read_text().startswith(f"# {name}\n{BEGIN}\n")
    assert key.read_text() not in result.output


@pytest.mark.parametrize("present", ["key", "key.pub"])
def test_keygen_replaces_no_key(tmp_path, present):
    (tmp_path / present).write_text("precious")

    result = CliRunner().invoke(app, ["keygen", str(tmp_path / "key")])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(present, "precious")]


def test_show_names_the_signing_key(store, draft, run, key, trusted, tmp_path):
    def shown(*arguments, env=None) -> str:
        result = run("show", "fruit", *arguments, env=env)
        assert result.exit_code == 0
        return next(line for line in result.stdout.splitlines() if line.startswith(" signature"))

    publish(store, *draft())
    assert "none" in shown()
    assert "none" in shown("--trusted-keys", trusted)

    output = run("sign", "fruit", "--key", key).stdout
    name = fingerprint(read_signing_key(key).public_key())
    assert output == f"fruit: version 1 is signed by {name}\n"
    assert "not checked" in shown()
    assert f"by the trusted key {name}" in shown("--trusted-keys", trusted)
    assert f"by the trusted key {name}" in shown(env={"MORA_TRUSTED_KEYS": str(trusted)})

    make_key_pair(tmp_path / "other", tmp_path / "other.pub")
    assert "by no trusted key" in shown("--trusted-keys", tmp_path / "other.pub")
    assert json.loads(run("show", "fruit", "--json").stdout)["version"] == 1


def test_verify_activate_and_rollback_refuse_untrusted_versions(store, draft, run, key, trusted):
    publish(store, *draft())
    publish(store, *draft(tail="second"), signing_key=read_signing_key(key))
    publish(store, *draft(tail="third"))
    rollback(store, "fruit")

    verified = run("verify", "--trusted-keys", trusted)
    assert verified.exit_code == 1
    assert [line[:12] for line in verified.stdout.splitlines()] == ["BAD  fruit 1", "ok   fruit 2", "BAD  fruit 3"]
    for command in (["activate", "fruit", 3], ["rollback", "fruit"]):
        result = run(*command, "--trusted-keys", trusted)
        assert result.exit_code == 1
        assert "is not signed" in result.stderr
        assert store.live("fruit") == 2

    assert run("rollback", "fruit").exit_code == 0, "without keys, no signature is required"
    assert run("activate", "fruit", 2, env={"MORA_TRUSTED_KEYS": str(trusted)}).exit_code == 0
