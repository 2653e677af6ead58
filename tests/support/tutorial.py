"""The commands of docs/tutorial.md, run one after another as a reader would."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BEFORE, _SERVE = "make setup", "mora-serve run"
_SERVED = "localhost:8000"


@dataclass(frozen=True)
class Step:
    """One block of commands, what the page says that it prints, and what it did."""

    commands: str
    said: str
    status: int
    output: str  # and errors

    @property
    def answer(self) -> dict:
        """What the service answered."""
        return json.loads(self.output)


@dataclass
class Tutorial:
    """A reader in an empty folder beside the repository's examples."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None

    def follow(self) -> None:
        """Run the page from its beginning to its end; the service then still runs."""
        (self.folder / "examples").symlink_to(ROOT / "examples")
        blocks = _FENCE.findall(PAGE.read_text(encoding="utf-8"))
        for (language, content), (then, said) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if language == "sh" and content.startswith(_SERVE):
                self._serve(content.split())
            elif language == "sh" and not content.startswith(_BEFORE):
                self._run(content, said if then == "text" else "")

    def stop(self) -> None:
        """Stop the service."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(timeout=30) == 0

    def _run(self, commands: str, said: str) -> None:
        line = commands.replace(_SERVED, self.url.removeprefix("http://") or _SERVED)
        shell = ["bash", "-e", "-c", line.replace("curl ", "curl --silent --show-error ")]
        done = subprocess.run(
            shell, cwd=self.folder, env=self._environment(), stdout=-1, stderr=subprocess.STDOUT, text=True, check=False
        )
        self.steps.append(Step(commands, said, done.returncode, done.stdout))
        assert done.returncode == said.startswith("error:"), f"{commands}\n{done.stdout}"
        if self.url:
            eventually(self._answers_with_the_live_version, seconds=60)

    def _serve(self, command: list[str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = self._environment() | {"MORA_PORT": str(port), "MORA_DRAIN_DELAY_SECONDS": "0"}
        self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL)
        self.url = f"http://localhost:{port}"
        eventually(self._answers_with_the_live_version, seconds=60)

    def _answers_with_the_live_version(self) -> bool:
        live = int((self.folder / "my-shop/store/tasks/shop-kind/live").read_text())
        try:
            with urllib.request.urlopen(f"{self.url}/tasks/shop-kind", timeout=5) as answer:
                return json.load(answer)["version"] == live
        except OSError:  # not yet
            return False

    def _environment(self) -> dict[str, str]:
        """The reader's: the project's commands are on the path, and the hub is away."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}


@contextmanager
def followed(folder: Path) -> Iterator[Tutorial]:
    """The tutorial after its last step, in an empty folder: version 1 of `shop-kind` answers at its `url`."""
    tutorial = Tutorial(folder)
    try:
        tutorial.follow()
        yield tutorial
    finally:
        tutorial.stop()
