"""Code, packages and machine of a version, with and without git."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest
import torch

from training.provenance import code_version, machine, package_versions

VERSION = importlib.metadata.version("mora-serve")


def test_outside_a_checkout_the_version_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)

    assert code_version() == VERSION


def test_a_checkout_of_another_project_gives_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def git(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        output = "abc1234" if command[1] == "describe" else "/somewhere/else"
        return subprocess.CompletedProcess(command, 0, output, "")

    monkeypatch.setattr(subprocess, "run", git)

    assert code_version() == VERSION


def test_packages_and_machine_name_torch() -> None:
    assert package_versions()["torch"] == torch.__version__
    assert "onnxruntime-gpu" not in package_versions() or "onnxruntime" not in package_versions()
    assert f"torch {torch.__version__}" in machine()
