"""Dependencies without known vulnerabilities, and no check that `python -O` removes."""

from __future__ import annotations

import ast
import http.client
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[3]
FLOORS = {  # the first version without the hole, and the hole
    "aiohttp": ("3.12.14", "CVE-2025-53643, request smuggling"),
    "cryptography": ("46.0.7", "CVE-2026-39892, buffer overflow"),
    "fastapi": ("0.109.1", "CVE-2024-24762, form parsing"),
    "h11": ("0.16.0", "CVE-2025-43859, request smuggling"),
    "jinja2": ("3.1.6", "CVE-2025-27516, sandbox escape"),
    "onnx": ("1.21.0", "CVE-2026-28500, untrusted downloads; external data"),
    "pillow": ("12.3", "decoders' memory safety"),
    "protobuf": ("6.31.1", "CVE-2025-4565, recursion"),
    "python-multipart": ("0.0.31", "negative lengths, CVE-2024-53981, CVE-2026-24486, -40347, -42561"),
    "ray": ("2.52", "CVE-2025-62593, job interface"),
    "requests": ("2.32.4", "CVE-2024-47081, leaked credentials"),
    "setuptools": ("78.1.1", "CVE-2025-47273, path traversal"),
    "starlette": ("1.0.1", "CVE-2026-48710, host header"),
    "torch": ("2.6", "CVE-2025-32434, unpickling"),
    "urllib3": ("2.6.0", "CVE-2025-66418, -66471, decompression"),
}
BODIES = [
    b'{"text": "a red apple"}',
    b"{",
    b'{"text": ""}',
    b'{"text": "red", "task": "../fruit"}',
    b'{"text": "red", "version": 99}',
    b'{"text": "red", "version": 2}',
    b'{"text": "red", "top_k": 0}',
    b'{"text": "red", "top_k": NaN}',
    b'{"text": "red", "more": 1}',
    b'{"text": "\\ud800"}',
    b'{"image": "http://127.0.0.1/a.png"}',
    b'{"image": "R0lGODlh"}',
    b'{"image": "iVBORw0KGgo="}',
    b"[" * 10_000,
    b'{"text": "' + b"a" * 70_000 + b'"}',
]


def pinned() -> dict[str, str]:
    return dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def installed() -> dict[str, str]:
    found = {}
    for name in FLOORS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def below_their_floor(versions: dict[str, str]) -> list[str]:
    """Which are known to be vulnerable, and why."""
    return [
        f"{name} {versions[name]} is below {floor}: {hole}"
        for name, (floor, hole) in FLOORS.items()
        if name in versions and Version(versions[name]) < Version(floor)
    ]


@pytest.mark.parametrize("versions", [installed, pinned])
def test_no_package_version_has_a_known_vulnerability(versions):
    found = versions()
    assert len(FLOORS.keys() & found.keys()) >= 8
    assert below_their_floor(found) == []


@pytest.mark.parametrize(("name", "old"), [("starlette", "1.0.0"), ("pillow", "12.2.0"), ("python-multipart", "0.0.9")])
def test_control_a_vulnerable_version_is_found(name, old):
    assert len(below_their_floor({**pinned(), name: old})) == 1


def asserts_in(source: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


def test_no_check_is_an_assert():
    found = {
        str(path.relative_to(ROOT)): lines
        for package in ("service", "model_store", "training")
        for path in (ROOT / package).rglob("*.py")
        if (lines := asserts_in(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_control_an_assert_is_found():
    assert asserts_in("def check(user):\n    assert user.is_admin, 'no'\n") == [2]


def answers(port: int) -> list[tuple[int, object]]:
    """Status and what was said to each body, without what differs from run to run."""
    found = []
    for body in BODIES:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/classify", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = json.loads(response.read())
        found.append((response.status, said.get("code") or said["labels"]))
        connection.close()
    return found


@pytest.mark.slow
def test_a_service_without_asserts_answers_and_refuses_alike(shelf, server, monkeypatch, reliability):
    shelf.publish("fruit")
    wrong = shelf.draft("fruit", seed=2).manifest.golden  # what another model answers
    shelf.publish_draft(shelf.draft("other").replacing(golden=wrong))
    found, refused = {}, {}
    for optimised in ("", "1"):
        monkeypatch.setenv("PYTHONOPTIMIZE", optimised)
        check = subprocess.run([sys.executable, "-c", "assert False"], capture_output=True, timeout=60, check=False)
        assert (check.returncode == 0) == bool(optimised)
        running = server(shelf.store)
        found[optimised] = answers(running.port)
        refused[optimised] = [
            (event["task"], event["reason"]) for event in running.events if event["event"] == "model_refused"
        ]

    assert refused[""] == [("other", "golden_mismatch")]
    statuses = [status for status, _ in found[""]]
    assert len(set(statuses)) >= 4
    alike = found[""] == found["1"] and refused[""] == refused["1"]
    what = f"{len(BODIES)} requests and a wrong model under python -O"
    reliability(what, "the same answers and refusals as without -O", "alike" if alike else f"{found}, {refused}", alike)
