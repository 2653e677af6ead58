"""Credentials of Docker's config.json and of credential helpers."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

import pytest

from model_store.transfer import TransferError
from model_store.transfer.docker_credentials import find_credentials

SECRET = "s3cret: of a test"  # noqa: S105
HELPER = """#!{python}
import json, sys
known = {known!r}
name = sys.stdin.read()
if name not in known:
    sys.exit({failure!r})
print(json.dumps(known[name]))
"""


def auth(user: str = "ann", password: str = SECRET) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`configure(content, known, failure)`: a config.json, and a helper `test` with what it knows."""

    def make(content: object, known: dict | None = None, failure: str = "credentials not found") -> Path:
        folder = tmp_path / "docker"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
        helper = tmp_path / "docker-credential-test"
        helper.write_text(HELPER.format(python=sys.executable, known=known or {}, failure=failure))
        helper.chmod(0o755)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        return folder / "config.json"

    return make


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.example", "registry.example"),
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_an_entry_is_found_by_its_host(configure, key, host):
    configure({"auths": {key: {"auth": auth()}, "another.example": {"auth": auth("bob")}}})

    credentials = find_credentials(host)

    assert (credentials.user, credentials.password) == ("ann", SECRET)
    assert find_credentials("unknown.example") is None


@pytest.mark.parametrize(
    ("entry", "known", "expected"),
    [
        ({"username": "ann", "password": SECRET}, {}, ("ann", SECRET, None)),
        ({"identitytoken": SECRET, "auth": auth()}, {}, ("", "", SECRET)),
        ({}, {"registry.example": {"Username": "ann", "Secret": SECRET}}, ("ann", SECRET, None)),
        ({}, {"registry.example": {"Username": "<token>", "Secret": SECRET}}, ("", "", SECRET)),
        ({"auth": auth("bob")}, {"registry.example": {"Username": "ann", "Secret": SECRET}}, ("ann", SECRET, None)),
        ({"auth": auth("bob")}, {}, ("bob", SECRET, None)),
    ],
)
@pytest.mark.parametrize("how", [{"credsStore": "test"}, {"credHelpers": {"registry.example": "test"}}])
def test_a_helper_comes_before_an_entry(configure, entry, known, expected, how):
    configure({"auths": {"registry.example": entry}, **how}, known)

    credentials = find_credentials("registry.example")

    assert (credentials.user, credentials.password, credentials.identity_token) == expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "[1]",
        '{"auths": 1}',
        '{"auths": {"registry.example": {"auth": "?"}}}',
        '{"auths": {"registry.example": {"username": "ann"}}}',
        '{"auths": {"registry.example": {"username": "ann", "password": null}}}',
        '{"auths": {"registry.example": {"username": "ann", "password": "\\ud800"}}}',
        '{"auths": {"registry.example": {"identitytoken": ["a"]}}}',
    ],
    ids=lambda content: content[:90],
)
def test_a_broken_file_is_named_without_its_content(configure, content):
    path = configure(content)

    with pytest.raises(TransferError, match=str(path)) as broken:
        find_credentials("registry.example")
    assert "docker login" in str(broken.value)


@pytest.mark.parametrize(
    ("helper", "failure", "problem"),
    [
        (
            "test",
            f"the safe is locked: {SECRET}",
            "docker-credential-test failed with status 1; run `docker login` again",
        ),
        ("gone", "", "docker-credential-gone does not run"),
        ("../../bin/sh", "", "invalid entry"),
    ],
)
def test_a_helper_that_fails_is_named_without_what_it_says(configure, helper, failure, problem):
    configure({"credsStore": helper}, failure=failure)

    with pytest.raises(TransferError, match=problem) as failed:
        find_credentials("registry.example")
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize("answer", [{}, {"Username": "ann"}, {"Secret": SECRET}, {"Username": "ann", "Secret": 1}, []])
def test_an_answer_of_a_helper_that_lacks_something_is_an_invalid_entry(configure, answer):
    configure({"credsStore": "test"}, {"registry.example": answer})

    with pytest.raises(TransferError, match=r"invalid entry for registry\.example") as broken:
        find_credentials("registry.example")
    assert SECRET not in str(broken.value)


def test_a_user_without_a_home_has_none(monkeypatch):
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)

    assert find_credentials("registry.example") is None


def test_without_a_file_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "gone"))

    assert find_credentials("registry.example") is None


def test_no_secret_is_shown(configure):
    configure({"auths": {"registry.example": {"auth": auth()}}})

    assert SECRET not in repr(find_credentials("registry.example"))
