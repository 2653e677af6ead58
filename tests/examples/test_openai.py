"""The program of docs/openai.md for Node.js gives the answers of the service, with the unmodified client."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.closed_service import CANARY, ClosedService, closed_service
from tests.support.tiny import ITEMS, LABELS, PICTURE, body

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "build/clients/openai/node_modules"


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Iterator[ClosedService]:
    """A service as a process, closed but for CANARY."""
    with closed_service(tmp_path_factory.mktemp("closed")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the program, its package and a picture."""
    if not (shutil.which("node") and PACKAGES.is_dir()):
        pytest.skip(f"NOT TESTED: node is not installed, or {PACKAGES} does not exist (make client-test)")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(PACKAGES)
    shutil.copy(ROOT / "examples/openai/moderate.mjs", folder)
    (folder / "picture.png").write_bytes(PICTURE)
    return folder


def run(folder: Path, *arguments: str, key: str = CANARY) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "OPENAI_API_KEY": key}
    command = ["node", folder / "moderate.mjs", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def post(url: str, path: str, fields: dict) -> dict:
    headers = {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}
    with urlopen(Request(f"{url}{path}", json.dumps(fields).encode(), headers), timeout=60) as response:
        return json.load(response)


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("task", LABELS)
@pytest.mark.slow
def test_the_client_for_node_gets_the_answers_of_the_service(folder, closed, task, pattern):
    has_image, text = ITEMS[pattern]
    item = [*(["--text", text] if text else []), *(["--image", "picture.png"] if has_image else [])]

    done = run(folder, f"{closed.url}/v1", task, *item)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    labels = post(closed.url, "/classify", body(PICTURE, pattern, task))["labels"]
    features = post(closed.url, "/embed", body(PICTURE, pattern, task))
    assert answer["category_scores"] == {label["label"]: label["score"] for label in labels}
    assert answer["categories"] == {label["label"]: label["selected"] for label in labels}
    expected = [*(features["image_features"] or []), *(features["text_features"] or [])]
    assert answer["embedding"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "key", "error", "status", "code"),
    [
        (["fruit", "--text", "red"], "another-key", "AuthenticationError", 401, "unauthorized"),
        (["nothing", "--text", "red"], CANARY, "NotFoundError", 404, "unknown_task"),
        (["fruit", "--text", " "], CANARY, "BadRequestError", 400, "missing_input"),
        (["fruit"], CANARY, "BadRequestError", 400, "bad_value"),
        (["fruit", "--image", "moderate.mjs"], CANARY, "BadRequestError", 400, "bad_base64"),
    ],
)
@pytest.mark.slow
def test_the_client_for_node_throws_its_own_errors(folder, closed, arguments, key, error, status, code):
    done = run(folder, f"{closed.url}/v1", *arguments, key=key)

    said = json.loads(done.stderr)
    assert (done.returncode, said["error"], said["status"], said["code"]) == (1, error, status, code)
    assert said["requestID"]
    assert said["message"].startswith(f"{status} ")
