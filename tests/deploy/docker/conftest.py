"""`make docker-test` (`pytest tests/deploy/docker --docker`): the compose file on a real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PROJECT = "mora-test"
FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--docker", action="store_true", help="build the images and run the compose file for real")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--docker", default=False):
        skip = pytest.mark.skip(reason="builds images: make docker-test")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, {}):
        terminalreporter.section("figures for docs/deployment.md")
        for what, value in figures.items():
            terminalreporter.line(f"{what}: {value}")


def run(*command: str, seconds: float = 1800, check: bool = True) -> str:
    """What a command prints; fails with all of it."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


class Stack:
    """The compose project, from images to requests."""

    def __init__(self, data: Path) -> None:
        files = ["docker-compose.yml", "docker/compose.debian.yml"]
        self.port = 18080
        os.environ |= {"MORA_DATA": str(data), "MORA_PUBLISH": str(self.port), "PROMETHEUS_PUBLISH": "19090"}
        self.compose = [*_compose(), "-p", PROJECT, *(word for file in files for word in ("-f", file))]
        self.url = f"http://127.0.0.1:{self.port}"
        self.prometheus = "http://127.0.0.1:19090"
        self.figures: dict[str, str] = {}  # printed at the end

    def do(self, *words: str, seconds: float = 1800) -> str:
        """What a command of docker compose prints."""
        return run(*self.compose, *words, seconds=seconds)

    def containers(self, service: str) -> list[str]:
        """Their ids."""
        return run(*self.compose, "ps", "-q", service).split()

    def inspect(self, container: str) -> dict:
        return json.loads(run("docker", "inspect", container))[0]

    def healthy(self, service: str) -> int:
        states = [self.inspect(container)["State"] for container in self.containers(service)]
        return sum(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def inside(self, service: str, *command: str, number: int = 0) -> tuple[int, str]:
        """Exit status of a command in a container, and all it said."""
        line = ["docker", "exec", self.containers(service)[number], *command]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def query(self, expression: str) -> list[dict]:
        """The series that Prometheus gives for an expression."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?query={quote(expression)}", timeout=10) as answer:
            return json.load(answer)["data"]["result"]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def _compose() -> list[str]:
    """`docker compose`, or docker-compose where the engine's client has no such plugin."""
    has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ["docker", "compose"] if has_plugin else ["docker-compose"]


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine; without one nothing here is tested, which must not look like success."""
    has_client = shutil.which("docker") is not None
    answers = has_client and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    if not answers or not (_compose()[0] == "docker" or shutil.which("docker-compose")):
        pytest.exit("NOT TESTED: there is no Docker engine (`docker info` fails), or no docker compose", returncode=2)


@pytest.fixture(scope="session")
def stack(
    engine: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_backbone: Path,
    parquet_of: Callable[[Path], dict[str, str]],
    pytestconfig: pytest.Config,
) -> Iterator[Stack]:
    """Two replicas behind nginx, watched by Prometheus; gone afterwards with its volumes."""
    data = tmp_path_factory.mktemp("data")
    data.chmod(0o755)
    data.parent.chmod(0o755)
    shutil.copytree(tiny_backbone, data / "backbone")
    for path in (data / "backbone", *(data / "backbone").iterdir()):
        path.chmod(0o755)  # another user reads it
    paths = {split: f"/data/{Path(path).name}" for split, path in parquet_of(data).items()}
    config = {
        "task": "colors",
        "problem": "single_label",
        "backbone": "/data/backbone",
        "data": {**paths, "label": "label"},
        "missing": {"train": {"ratio": 0.5}},
        "train": {"epochs": 1, "batch_size": 8},
        "export": {"accuracy_budget": 100},
    }
    (data / "colors.yaml").write_text(yaml.safe_dump(config))
    stack = Stack(data)
    pytestconfig.stash[FIGURES] = stack.figures
    stack.do("--profile", "train", "build", "service", "nginx", "prometheus", "train")
    stack.do("down", "-v")
    started = time.monotonic()
    stack.do("up", "-d", "service", "nginx", "prometheus")
    try:
        assert wait_until(lambda: answers(f"{stack.url}/readyz"), 60)
        stack.figures["compose up until nginx answers /readyz"] = f"{time.monotonic() - started:.1f} s"
        yield stack
    finally:
        logs = run(*stack.compose, "logs", "--no-color", "--tail", "400", check=False)
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "docker-test.log").write_text(logs)
        stack.do("--profile", "train", "down", "-v")
