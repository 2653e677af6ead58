"""Files that are written once; reading them is tested in test_store.py."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from model_store.files import blob_of, digest_line, write_synced


def test_a_blob_is_named_by_its_digest_and_size():
    blob = blob_of(b"a picture")

    assert (blob.sha256, blob.size) == (hashlib.sha256(b"a picture").hexdigest(), 9)


def test_sha256sum_checks_a_manifest_against_its_digest_line(tmp_path):
    (tmp_path / "manifest.json").write_bytes(b"{}")
    (tmp_path / "manifest.sha256").write_bytes(digest_line(b"{}"))

    command = ["sha256sum", "--check", "manifest.sha256"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "manifest.json").write_bytes(b"[]")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_a_file_is_never_overwritten(tmp_path):
    write_synced(tmp_path / "blob", b"first")

    with pytest.raises(FileExistsError):
        write_synced(tmp_path / "blob", b"second")
    assert (tmp_path / "blob").read_bytes() == b"first"
