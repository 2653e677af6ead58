"""Rules of the house that no other tool checks."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from examples.openclipart.icons import ICON_SETS

ROOT = Path(__file__).parents[1]
PACKAGES = ["model_store", "service", "training"]
RUNTIME_EXTRAS = {"cpu", "cuda", "gpu", "train", "openvino", "otel", "parquet", "ray", "signing", "transfer"}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_once_and_in_order(package):
    module = importlib.import_module(package)
    public = getattr(module, "__all__", [])

    assert [name for name in public if not hasattr(module, name)] == []
    assert len(set(public)) == len(public)


def test_model_store_exports_what_it_imports():
    module = importlib.import_module("model_store")
    imported = {
        name for name, value in vars(module).items() if getattr(value, "__module__", "").startswith("model_store.")
    }

    assert set(module.__all__) == imported | {"DEFAULT_STORE"}


def test_file_names_say_what_is_inside():
    files = [
        path
        for folder in [*PACKAGES, "tests", "benchmarks", "docs", "examples"]
        for path in (ROOT / folder).rglob("*.py")
    ]

    assert len(files) > 20
    assert [str(path.relative_to(ROOT)) for path in files if SAYS_NOTHING & {path.stem, path.parent.name}] == []


def test_constraints_are_exact_versions_in_order():
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][a-z0-9.]*", line)] == []
    assert lines == sorted(set(lines))
    assert len(pins()) == len(lines)


def test_every_direct_dependency_is_pinned():
    required = [
        *project()["dependencies"],
        *(name for extra in project()["optional-dependencies"].values() for name in extra),
    ]
    names = {normal(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in required}

    assert names - pins().keys() == set()


def test_a_dependency_that_is_run_has_both_bounds_and_its_pin_between_them():
    """A lower bound is what the tests run on; an upper bound is the next release that may break what uses it."""
    extras = project()["optional-dependencies"]
    required = project()["dependencies"] + [name for extra in RUNTIME_EXTRAS for name in extras[extra]]
    for requirement in map(Requirement, required):
        operators = sorted(bound.operator for bound in requirement.specifier)

        assert operators == ["<", ">="], requirement
        assert pins()[normal(requirement.name)] in requirement.specifier, requirement

    assert extras.keys() == RUNTIME_EXTRAS | {"bench", "dev", "docs", "fuzz", "trust"}


def test_both_runtimes_have_one_version():
    assert pins()["onnxruntime"] == pins()["onnxruntime-gpu"]


def test_the_changelog_begins_with_this_version():
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert versions[0] == project()["version"]


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert (citation["title"], citation["version"]) == (project()["name"], project()["version"])
    assert citation["license"] == project()["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert citation["references"][0]["url"] == project()["urls"]["Paper"]


def test_the_notice_names_every_source_of_the_shipped_backbone():
    readme = (ROOT / "examples/openclipart/README.md").read_text()
    installed = re.findall(r"apt-get install ((?:[a-z0-9-]+(?: \\\n +| )?)+)", readme)
    packages = {name for line in installed for name in re.findall(r"[a-z][a-z0-9-]+", line)}
    words = set(re.findall(r"[\w-]+", (ROOT / "NOTICE").read_text()))

    assert {"openclipart-png", "tango-icon-theme", "gnome-icon-theme-gartoon"} <= packages
    assert packages - {"wordnet-base"} - words == set()
    assert {*ICON_SETS} - words == set()
    assert {"WordNet", "DINOv2", "all-MiniLM-L6-v2"} <= words


def test_decisions_are_numbered_without_gaps():
    names = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))

    assert [name[:5] for name in names] == [f"{number:04d}-" for number in range(1, len(names) + 1)]


def test_serving_needs_no_training_package():
    """The serving environment has neither torch nor transformers: nothing on the way to `service.cli` imports them."""
    script = """
import sys, service.cli, model_store.cli
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "datasets", "training"}))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_make_help_lists_every_target_of_the_makefile():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)

    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)

    assert re.findall(r"^  make (\S+)", done.stdout, flags=re.MULTILINE) == phony.split()
    assert re.findall(r"^([a-z-]+):.*##", text, flags=re.MULTILINE) == phony.split()
