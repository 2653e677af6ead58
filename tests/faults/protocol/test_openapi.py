"""The OpenAPI document against the service that publishes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def try_document(base: str, folder: Path, examples: int, *flags: str) -> tuple[int, str]:
    """How many cases were tried, and what schemathesis says; 0 where it found anything."""
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{base}/openapi.json"),
        *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
        *("--seed", "1", "--generation-database", "none", "--continue-on-failure", "--no-color"),
        *flags,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.faults.openapi_hooks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=1800, check=False
    )
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    is_good = done.returncode == 0 and found is not None and found[1] == found[2] and "unresolvable" not in done.stdout
    return int(found[1]) if is_good and found else 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_service_conforms_to_its_openapi_document(shelf, server, tmp_path, counts, reliability):
    shelf.publish("fruit")
    shelf.publish("tags")
    running = server(shelf.store, log_level="error")

    cases, said = try_document(running.base, tmp_path, counts(5, 750))

    assert cases >= counts(150, 2_000), said
    reliability(
        "requests generated from the OpenAPI document",
        "no 5xx; every answer has a status, content type and schema of the document",
        f"{cases} of {cases} cases",
    )


def test_control_a_wrong_openapi_document_is_found(shelf, server, tmp_path, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="lies", log_level="error")

    cases, said = try_document(running.base, tmp_path, 1, "--include-path", "/livez")

    found = cases == 0 and "GET /livez" in said and "Response violates schema" in said
    reliability("*control*: an OpenAPI document that is wrong about /livez", "found", f"found: {found}", found)
