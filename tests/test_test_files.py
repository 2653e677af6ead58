"""Rules for the test files: each module has one, none reaches into another room, planted faults are fault tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model_store", "service", "training")
# Private names of libraries, which modules here use as well.
OF_LIBRARIES = {"_metadata", "_model_bytes", "_n_gpu", "_name", "_value"}
COVERS = re.compile(r"^Covers ([a-z_.]+(?:, [a-z_.]+)*)\.$", re.MULTILINE)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules() -> dict[str, Path]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(paths)}


def files_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


def mirrored_by(path: Path) -> str:
    """The module that a test file is named after: `service.web.access` for tests/service/web/test_access.py."""
    folders = path.relative_to(ROOT / "tests").parts[:-1]
    return ".".join([*folders, path.stem.removeprefix("test_")])


def has_logic(tree: ast.Module) -> bool:
    """Whether any function does more than `...`, as those of a Protocol."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(not is_stub(statement) for function in functions for statement in function.body)


def is_stub(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def covered_by(docstring: str) -> set[str]:
    return {name for line in COVERS.findall(docstring) for name in line.split(", ")}


def modules_with_tests() -> set[str]:
    """Modules with a test file of their name, or named by a line `Covers service.web.app.` of a test file."""
    tested = set()
    for path in files_of_tests():
        if path.name.startswith("test_"):
            tested |= {mirrored_by(path), *covered_by(ast.get_docstring(tree_of(path)) or "")}
    return tested


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


@cache
def owners() -> dict[str, set[str]]:
    """The modules that define each private name, by name."""
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        for name in filter(is_private, defined_in(tree_of(path))):
            found.setdefault(name, set()).add(module)
    return found


def defined_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def names_used(tree: ast.Module) -> Iterator[str]:
    """Names that a file takes of others: attributes, imports, and strings such as monkeypatch takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).split(".")[0] in PACKAGES:
            yield node.value.rpartition(".")[2]
        elif isinstance(node, ast.Call) and called(node) in ("getattr", "setattr", "hasattr", "delattr"):
            yield from (word.value for word in node.args if isinstance(word, ast.Constant))


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def private_names_of_others(tree: ast.Module, own: str) -> set[str]:
    used = set(filter(is_private, map(str, names_used(tree)))) - OF_LIBRARIES
    return {name for name in used if name in owners() and own not in owners()[name]}


def test_every_module_with_logic_has_a_test_file_of_its_name():
    untested = {module for module, path in modules().items() if has_logic(tree_of(path))} - modules_with_tests()

    assert untested == set(), "add a test file of the module's name, or a line `Covers the.module.`"


def test_every_module_that_a_test_file_says_it_covers_exists():
    covered = {name for path in files_of_tests() for name in covered_by(ast.get_docstring(tree_of(path)) or "")}

    assert covered - modules().keys() == set()


def test_no_test_touches_a_private_name_of_another_room():
    reaches = {
        (str(path.relative_to(ROOT)), name)
        for path in files_of_tests()
        for name in private_names_of_others(tree_of(path), mirrored_by(path))
    }

    assert reaches == set(), "use a public name, an argument, or the module's own test file"


def test_planted_faults_and_measured_times_are_fault_tests():
    """Tests of these names run with `make faults` only, which runs tests/faults."""
    elsewhere = [
        f"{path.relative_to(ROOT)}::{name}"
        for path in files_of_tests()
        for name in defined_in(tree_of(path))
        if name.startswith(("test_control_", "test_timing_")) and "faults" not in path.parts
    ]

    assert elsewhere == []


@pytest.mark.parametrize(
    "source",
    [
        "watch._rechecks",
        "from service.inference.failure_watch import _FAILURES_BEFORE_RECHECK",
        "monkeypatch.setattr('service.inference.failure_watch._FAILURES_BEFORE_RECHECK', 1)",
        "monkeypatch.setattr(watch, '_FAILURES_BEFORE_RECHECK', 1)",
        "getattr(watch, '_rechecks')",
    ],
)
def test_a_private_name_is_found_however_it_is_reached(source):
    assert private_names_of_others(ast.parse(source), "service.web.app")
    assert not private_names_of_others(ast.parse(source), "service.inference.failure_watch")


def test_a_docstring_names_the_modules_it_covers():
    assert covered_by("Routes.\n\nCovers service.web.app, service.web.dependencies.\n") == {
        "service.web.app",
        "service.web.dependencies",
    }
    assert covered_by("It covers service.web.app") == set()


def test_a_protocol_has_no_logic():
    assert not has_logic(ast.parse('class Graph(Protocol):\n    def run(self):\n        """Run."""\n        ...'))
    assert has_logic(ast.parse("def half(x):\n    return x / 2"))
