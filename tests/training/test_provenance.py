"""Code, packages and machine of a version, with and without git."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest
import torch

from training.provenance import code_version, machine, package_versions, public_config, public_path

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


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("/home/nobody/shop/train.csv", "train.csv"),
        ("/data/my shop/", "my shop"),
        ("//server/share/train.csv", "train.csv"),
        ("../../nobody/train.csv", "train.csv"),
        ("data/../../nobody/train.csv", "train.csv"),
        ("~/shop/train.csv", "train.csv"),
        ("~nobody/train.csv", "train.csv"),
        ("file:///home/nobody/train.csv", "train.csv"),
        (r"C:\Users\nobody\train.csv", "train.csv"),
        ("C:/Users/nobody/train.csv", "train.csv"),
        (r"\\server\share\shop\train.csv", "train.csv"),
        (r"..\nobody\train.csv", "train.csv"),
        ("/", "."),
        ("..", "."),
        ("~nobody", "."),
    ],
)
def test_of_a_local_path_only_the_last_part_is_public(name: str, public: str) -> None:
    assert public_path(name) == public


@pytest.mark.parametrize(
    "name",
    [
        "shop/train.csv",
        "./train.csv",
        r"shop\train.csv",
        "owner/pets:train",
        "openai/clip-vit-base-patch16",
        "a..b",
        "",
    ],
)
def test_relative_paths_and_names_of_the_hub_are_public(name: str) -> None:
    assert public_path(name) == name


def test_every_text_of_a_configuration_but_a_label_is_made_public() -> None:
    config = public_config(
        {
            "backbone": "/models/clip",
            "labels": ["/sarcasm", "plain"],
            "data": {"train": "/shop/train.csv", "test": None, "label": "kind"},
            "missing": {"test": {"table": "/shop/table.npy", "ratio": 0.5}},
            "mora": {"target_modules": ["q_proj", "/x/v_proj"]},
        }
    )

    assert config == {
        "backbone": "clip",
        "labels": ["/sarcasm", "plain"],
        "data": {"train": "train.csv", "test": None, "label": "kind"},
        "missing": {"test": {"table": "table.npy", "ratio": 0.5}},
        "mora": {"target_modules": ["q_proj", "v_proj"]},
    }
