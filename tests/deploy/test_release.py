"""`make release`: what it builds is of a commit, and its signed statement fits no other files."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from model_store.signing import make_key_pair
from tests.deploy.test_distributions import ROOT, copy_of_the_sources

PROGRAM = ROOT / "docker" / "release.py"
STATEMENT = "provenance.intoto.jsonl"


def release(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.org", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "release.key"
    make_key_pair(path, Path(f"{path}.pub"))
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The sources without the store, whose compression takes long, as a repository with one commit."""
    folder = copy_of_the_sources(tmp_path_factory.mktemp("checkout"), has_store=False)
    (folder / "docker").mkdir()
    for name in ("requirements-cpu.txt", "requirements-build.txt"):
        (folder / "docker" / name).write_bytes((ROOT / "docker" / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a commit")
    return folder


@pytest.fixture(scope="module")
def released(checkout, key, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("released")
    done = release("build", "--key", key, "--source", checkout, "--output", output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def copy(released, tmp_path) -> Path:
    for path in released.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def statement(folder: Path) -> dict:
    return json.loads(base64.b64decode(json.loads((folder / STATEMENT).read_text())["payload"]))


@pytest.mark.slow
def test_the_statement_names_every_file_and_the_commit(released, checkout):
    said = statement(released)
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in released.iterdir() if path.name != STATEMENT}

    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]} == files
    assert sorted(Path(name).suffix for name in files) == [".gz", ".json", ".whl"]
    source, *locks = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["gitCommit"] == git(checkout, "rev-parse", "HEAD")
    assert [lock["name"] for lock in locks] == ["docker/requirements-cpu.txt", "docker/requirements-build.txt"]
    parts = {part["name"] for part in json.loads((released / "sbom.json").read_text())["components"]}
    assert {"onnxruntime", "fastapi"} <= parts


@pytest.mark.slow
def test_a_commit_gives_the_same_files_again(released, checkout, key, tmp_path):
    (checkout / "build").mkdir(exist_ok=True)
    done = release("build", "--key", key, "--source", checkout, "--output", tmp_path / "again")

    assert done.returncode == 0, done.stderr
    assert statement(tmp_path / "again")["subject"] == statement(released)["subject"]


@pytest.mark.slow
def test_what_was_released_is_verified(released, key, checkout):
    done = release("verify", released, "--key", f"{key}.pub")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("as released") == 3
    assert f"built from commit {git(checkout, 'rev-parse', 'HEAD')}" in done.stdout


@pytest.mark.parametrize("change", ["a byte of the wheel", "another file", "the statement", "another key"])
@pytest.mark.slow
def test_what_was_not_released_is_refused(copy, key, change):
    (wheel,) = copy.glob("*.whl")
    public = Path(f"{key}.pub")
    if change == "a byte of the wheel":
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
    elif change == "another file":
        (copy / "more.whl").write_bytes(b"not released")
    elif change == "the statement":
        envelope = json.loads((copy / STATEMENT).read_text())
        said = {**statement(copy), "subject": []}
        envelope["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
        (copy / STATEMENT).write_text(json.dumps(envelope))
    else:
        public = copy.parent / "other.key.pub"
        make_key_pair(copy.parent / "other.key", public)

    done = release("verify", copy, "--key", public)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "not the file that was released" in done.stderr or "is not signed with" in done.stderr


def test_a_working_tree_with_changes_is_refused(checkout, key, tmp_path):
    (checkout / "notes.txt").write_text("not committed")
    try:
        done = release("build", "--key", key, "--source", checkout, "--output", tmp_path / "none")
    finally:
        (checkout / "notes.txt").unlink()

    assert done.returncode == 2
    assert "notes.txt" in done.stderr
    assert not (tmp_path / "none").exists()
