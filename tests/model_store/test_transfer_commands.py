"""The commands push, pull and follow.

Covers model_store.store_options.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_store import Store, publish, sign
from model_store.cli import app
from model_store.signing import make_key_pair, read_signing_key
from tests.support.waiting import eventually

PROGRAM = [sys.executable, "-m", "model_store"]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line_error(result, *words: str, status: int = 1) -> None:
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.fixture
def two_versions(store, draft) -> Store:
    publish(store, *draft())
    publish(store, *draft(tail="second"))
    return store


@pytest.mark.parametrize(("given", "version"), [("fruit", 2), ("fruit@1", 1), ("fruit@2", 2)])
def test_push_and_pull(two_versions, tmp_path, given, version):
    pushed = run("push", given, tmp_path / "share", "--store", two_versions.root)
    pulled = run("pull", tmp_path / "share", "--store", tmp_path / "other")

    assert pushed.stdout.startswith(f"fruit: {tmp_path}/share points to version {version} (")
    assert f"fruit: version {version} is in {tmp_path}/other (" in pulled.stdout
    assert f"`mora-store activate fruit {version} --store {tmp_path}/other` makes it live" in pulled.stdout
    assert Store(tmp_path / "other").live("fruit") is None

    again = run("pull", tmp_path / "share", "--store", tmp_path / "other", "--activate")
    assert again.stdout == f"fruit: version {version} is in {tmp_path}/other (0 B fetched) and live\n"
    assert Store(tmp_path / "other").live("fruit") == version
    without = run("pull", tmp_path / "share", "--store", tmp_path / "other")
    assert without.stdout == again.stdout  # it is live already


@pytest.mark.parametrize("given", ["fruit@", "fruit@0", "fruit@x", "fruit@1@2", "@", "fruit@1.0"])
def test_what_is_no_version_is_a_usage_error(two_versions, tmp_path, given):
    result = run("push", given, tmp_path / "share", "--store", two_versions.root)

    assert_one_line_error(result, "TASK[@VERSION]", "shop-kind@3", status=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["push", "gone", "share"], ["no task gone"]),
        (["push", "fruit@7", "share"], ["no version 7"]),
        (["push", "fruit", "ftp://host/a"], ["ftp:// names no place"]),
        (["push", "fruit", "oci://127.0.0.1:9/a", "--plain-http"], ["127.0.0.1:9 gives no answer: connection refused"]),
        (["pull", "gone"], ["gone points to no version"]),
        (["pull", "s3://key:password@a"], ["leave passwords out of it"]),
        (["follow", "hf://a"], ["does not have the form hf://OWNER/NAME"]),
    ],
)
def test_errors_are_one_line(two_versions, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)

    assert_one_line_error(run(*arguments, "--store", two_versions.root), *words)


def test_a_store_that_cannot_be_written_is_one_line(two_versions, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    assert_one_line_error(run("pull", two_versions.root, "--store", tmp_path / "file/store"), "Not a directory")
    assert_one_line_error(run("push", "fruit", tmp_path / "file/a", "--store", two_versions.root))


def test_trusted_keys_are_required_by_pull_and_follow(two_versions, tmp_path, monkeypatch):
    make_key_pair(tmp_path / "key", tmp_path / "key.pub")
    monkeypatch.setenv("MORA_TRUSTED_KEYS", str(tmp_path / "key.pub"))

    assert_one_line_error(run("pull", two_versions.root, "--store", tmp_path / "other"), "is not signed")
    sign(two_versions, "fruit", None, read_signing_key(tmp_path / "key"))
    assert run("pull", two_versions.root, "--store", tmp_path / "other").exit_code == 0


class Followed:
    """`mora-store follow` as a process, with the lines that it prints."""

    def __init__(self, *arguments: object) -> None:
        command = [*PROGRAM, "follow", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr))
        self.reader.start()

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.reader.join(30)
        self.process.stderr.close()
        return status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_follow_activates_each_version_and_ends_at_a_signal(store, draft, tmp_path, number):
    followed = Followed(store.root, "--seconds", 1, "--store", tmp_path / "other")
    eventually(lambda: followed.has("points to no version"), 60)
    for tail, version in (("first", 1), ("second", 2)):
        publish(store, *draft(tail=tail))
        eventually(lambda version=version: followed.has(f"fruit: version {version} is live"), 60)

    assert followed.stop(number) == 0
    assert Store(tmp_path / "other").verify("fruit").version == 2
    assert followed.lines[0].endswith(f"following {store.root}, every 1 s\n")


def test_follow_with_keep_removes_old_versions(two_versions, draft, tmp_path):
    run("pull", two_versions.root, "--store", tmp_path / "other", "--activate")
    followed = Followed(two_versions.root, "--seconds", 1, "--keep", 1, "--store", tmp_path / "other")
    for version in (3, 4):
        publish(two_versions, *draft(tail=f"version {version}"))
        eventually(lambda version=version: followed.has(f"fruit: version {version} is live"), 60)
    eventually(lambda: followed.has("; the store has 3, 4"), 60)

    assert followed.stop(signal.SIGTERM) == 0
    assert Store(tmp_path / "other").versions("fruit") == [3, 4]


def test_follow_ends_at_once_while_a_registry_sends_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        followed = Followed(f"oci://{host}/a", "--plain-http", "--store", tmp_path / "other")
        connection, _ = silent.accept()
        with connection:
            assert followed.stop(signal.SIGTERM) == 0


def test_a_pull_that_is_stopped_leaves_nothing_visible(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [*PROGRAM, "pull", f"oci://{host}/a", "--plain-http", "--store", str(tmp_path / "other")]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 128 + signal.SIGINT
    assert not (tmp_path / "other").exists()
