"""What a TARGET names.

Covers model_store.transfer.registry_reference.
"""

from __future__ import annotations

import sys

import pytest

from model_store.transfer import TransferError, open_remote
from model_store.transfer.bucket import Bucket
from model_store.transfer.folder import Folder
from model_store.transfer.hub import Hub
from model_store.transfer.registry import Registry
from model_store.transfer.registry_reference import parse_reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:5000/models:fruit", ("localhost:5000", "models", "fruit")),
        ("ghcr.io/me/shop/models", ("ghcr.io", "me/shop/models", "latest")),
        (f"[::1]:5000/a@{DIGEST}", ("[::1]:5000", "a", DIGEST)),
        ("registry.example/a__b/c-d:V1.2_x", ("registry.example", "a__b/c-d", "V1.2_x")),
    ],
)
def test_references(text, expected):
    reference = parse_reference(text)

    assert reference == expected
    assert reference.is_digest == (expected[2] == DIGEST)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models",
        "localhost:5000/",
        "localhost/Models",
        "localhost/a//b",
        "localhost/../a",
        "localhost/a:",
        "localhost/a:.b",
        "localhost/a:" + "b" * 129,
        "localhost/a@sha256:12",
        "user:password@localhost/a",
        "localhost/a?b=c",
        "localhost/a#b",
        "localhost/a b",
        "localhost/a\nb",
        "local\x00host/a",
    ],
)
def test_no_references(text):
    assert parse_reference(text) is None
    with pytest.raises(TransferError, match="does not have the form oci://HOST/REPOSITORY:TAG") as wrong:
        open_remote(f"oci://{text}")
    assert "password@" not in str(wrong.value)


@pytest.mark.parametrize(
    ("target", "kind", "task"),
    [
        ("oci://localhost/models:fruit", Registry, None),
        ("s3://models", Bucket, None),
        ("s3://models/a/b-c", Bucket, None),
        ("s3://models/a/:fruit", Bucket, "fruit"),
        ("gs://models:fruit", Bucket, "fruit"),
        ("hf://shop/models", Hub, None),
        ("hf://shop/models:fruit", Hub, "fruit"),
        ("share", Folder, None),
        ("/mnt/share:fruit", Folder, "fruit"),
        ("./a b/c", Folder, None),
    ],
)
def test_each_form_opens_its_place_and_asks_nothing(target, kind, task, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    remote = open_remote(target)

    assert (type(remote), remote.name, remote.task) == (kind, target, task)
    remote.close()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("", "the target is empty"),
        ("a\0b", "the target is empty"),
        ("http://localhost/models", "http:// names no place; a target is oci://HOST/REPOSITORY:TAG, s3://"),
        ("OCI://localhost/models", "OCI:// names no place"),
        ("s3://", "does not have the form s3://BUCKET/PREFIX"),
        ("s3://key:password@models/a", "leave passwords out of it"),
        ("s3://models/../a", "does not have the form s3://"),
        ("s3://models//a", "does not have the form s3://"),
        ("gs://models/a?b=c", "does not have the form gs://"),
        ("az:///a", "does not have the form az://"),
        ("hf://models", "does not have the form hf://OWNER/NAME"),
        ("hf://password@shop/models", "does not have the form hf://"),
        ("hf://shop/models/more", "does not have the form hf://"),
    ],
)
def test_a_wrong_target_is_one_line_without_passwords(target, problem):
    with pytest.raises(TransferError, match=problem) as wrong:
        open_remote(target)
    assert "password@" not in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("target", "package"),
    [("s3://models", "obstore"), ("gs://models/a", "obstore"), ("hf://shop/models", "huggingface_hub")],
)
def test_a_missing_library_names_the_extra(target, package, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(TransferError, match=rf"needs {package}; install it: pip install 'mora-serve\[transfer\]'"):
        open_remote(target)
