"""Images of others are named by their digest, wherever one is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.promql import ROOT

COMPOSE = [ROOT / "docker-compose.yml", ROOT / "docker/compose.keys.yml"]
DOCKERFILES = [ROOT / "docker/service.Dockerfile", ROOT / "docker/training.Dockerfile"]
# compose.debian.yml and debian.Dockerfile are for machines without a registry: their base image is a local one.
MANIFESTS = sorted((ROOT / "docker/kubernetes").glob("*.yaml"))
OUR_OWN = re.compile(r"(registry\.example/)?mora-(serve|train)(:[\w.]+)?")
PINNED = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def images(path: Path) -> Iterator[str]:
    """The images that a file names."""
    if path.suffix == ".Dockerfile":
        text = path.read_text()
        yield from re.findall(r"^ARG BASE=(\S+)", text, re.MULTILINE)
        stages = set(re.findall(r" AS (\w+)$", text, re.MULTILINE)) | {"scratch", "${BASE}"}
        yield from set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
        return
    for document in yaml.safe_load_all(path.read_text()):
        yield from named(document)


def named(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("image", "BASE") and isinstance(value, str):
                yield value
            yield from named(value)
    elif isinstance(node, list):
        for value in node:
            yield from named(value)


@pytest.mark.parametrize("path", [*COMPOSE, *DOCKERFILES, *MANIFESTS], ids=lambda path: path.name)
def test_images_of_others_are_named_by_their_digest(path):
    assert [name for name in images(path) if not (OUR_OWN.fullmatch(name) or PINNED.fullmatch(name))] == []


def test_every_image_is_found(tmp_path):
    assert sum(len(list(images(path))) for path in (*COMPOSE, *DOCKERFILES)) >= 8
    (tmp_path / "a.Dockerfile").write_text("ARG BASE=python:3.11\nFROM ${BASE} AS base\nFROM base\nFROM busybox\n")
    (tmp_path / "a.yml").write_text("services: {a: {image: nginx}, b: {build: {args: {BASE: debian}}}}")
    assert sorted(images(tmp_path / "a.Dockerfile")) == ["busybox", "python:3.11"]
    assert sorted(images(tmp_path / "a.yml")) == ["debian", "nginx"]


def test_both_dockerfiles_have_one_base_and_offline_builds_its_local_name():
    (base,) = {name for path in DOCKERFILES for name in images(path)}
    offline = yaml.safe_load((ROOT / "docker/compose.debian.yml").read_text())["services"]

    assert {offline[name]["build"]["args"]["BASE"] for name in ("store", "service", "train")} == {
        base.partition("@")[0]
    }


def test_a_new_volume_is_filled_before_a_replica_mounts_it():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounting = {name for name, each in services.items() if "store:/store:ro" in each.get("volumes", [])} - {"store"}
    assert mounting == {"service", "service-gpu"}
    for name in mounting:
        assert services[name]["depends_on"]["store"]["condition"] == "service_completed_successfully"
    assert services["store"]["image"] == services["service"]["image"]
