"""Coverage-guided fuzzing of the parsers of client input."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.faults.coverage_inputs import INPUTS
from tests.support.faults.raw_fuzz import FOUND

ROOT = Path(__file__).parents[3]
HARNESSES = ["json", "multipart", "image"]
pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install '.[fuzz]'")


@dataclass
class Fuzzer:
    """A fuzzer under way in a process of its own, or at its end."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self, seconds: int) -> str:
        """All it said, once it has ended."""
        self.process.wait(timeout=seconds + 120)
        return self.log.read_text(errors="replace")


def start(name: str, folder: Path, seconds: int, **environment: str) -> Fuzzer:
    corpus, log = folder / f"corpus-{name}", folder / f"{name}.log"
    corpus.mkdir()
    for number, data in enumerate(INPUTS[name]()):
        (corpus / str(number)).write_bytes(data)
    FOUND.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048"]
    command = [sys.executable, "-m", f"tests.support.faults.fuzz_{name}", str(corpus), "-seed=1", *limits]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"-artifact_prefix={FOUND}/{name}-"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    return Fuzzer(process, log)


@pytest.mark.slow
def test_fuzzed_inputs_are_answered_or_refused(tmp_path, counts, reliability):
    seconds = counts(5, 120)
    started = {name: start(name, tmp_path, seconds) for name in HARNESSES}
    outputs = {name: fuzzer.output(seconds) for name, fuzzer in started.items()}

    wrong = {name: outputs[name][-3000:] for name, fuzzer in started.items() if fuzzer.process.returncode != 0}
    assert wrong == {}
    runs = {name: int(re.findall(r"Done (\d+) runs", output)[-1]) for name, output in outputs.items()}
    assert min(runs.values()) > 100
    reliability(
        f"coverage-guided fuzzing of JSON, forms and pictures, {seconds} s each",
        "answered or refused, within 10 s and 2 GB",
        ", ".join(f"{name}: {count} runs" for name, count in runs.items()),
    )


def test_control_a_planted_error_is_found_by_fuzzing(tmp_path, reliability):
    faults = {"json": "extra_field", "multipart": "bad_text", "image": "undecodable"}
    started = {name: start(name, tmp_path, 60, PLANTED=code) for name, code in faults.items()}

    found = {}
    for name, fuzzer in started.items():
        output = fuzzer.output(60)
        kept = [Path(path) for path in re.findall(r"Test unit written to (\S+)", output)]
        refused = "ServiceError" in output or "PictureError" in output
        found[name] = fuzzer.process.returncode != 0 and refused and bool(kept)
        for path in kept:
            path.unlink()
    reliability(
        "*control*: fuzzers of code that raises where it should refuse", "found", str(found), all(found.values())
    )
