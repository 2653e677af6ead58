"""Coverage-guided fuzzing of whatever reads what a client sends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.faults.coverage_inputs import INPUTS
from tests.faults.raw_fuzz import FOUND

ROOT = Path(__file__).parents[2]
HARNESSES = ["json", "multipart", "image"]
pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install '.[fuzz]'")


def start(name: str, folder: Path, seconds: int, **environment: str) -> subprocess.Popen[str]:
    corpus = folder / f"corpus-{name}"
    corpus.mkdir()
    for number, data in enumerate(INPUTS[name]()):
        (corpus / str(number)).write_bytes(data)
    FOUND.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}",
        "-seed=1",
        "-timeout=10",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={FOUND}/{name}-",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.fuzz_{name}", str(corpus), *flags],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_no_input_leads_where_nobody_looked(tmp_path, counts, reliability):
    seconds = counts(5, 120)
    started = {name: start(name, tmp_path, seconds) for name in HARNESSES}
    outputs = {name: process.communicate(timeout=seconds + 120)[0] for name, process in started.items()}

    wrong = {name: outputs[name][-3000:] for name, process in started.items() if process.returncode != 0}
    assert wrong == {}
    runs = {name: int(re.findall(r"Done (\d+) runs", output)[-1]) for name, output in outputs.items()}
    assert min(runs.values()) > 100
    reliability(
        f"coverage-guided fuzzing of JSON, forms and pictures, {seconds} s each",
        "answered or refused, within 10 s and 2 GB",
        ", ".join(f"{name}: {count} runs" for name, count in runs.items()),
    )


@pytest.mark.parametrize(
    ("name", "code"), [("json", "extra_field"), ("multipart", "bad_text"), ("image", "image_undecodable")]
)
def test_control_a_refusal_that_were_a_fault_is_found(tmp_path, name, code, reliability):
    process = start(name, tmp_path, 30, PLANTED=code)
    output = process.communicate(timeout=150)[0]

    (kept,) = re.findall(r"Test unit written to (\S+)", output) or [None]
    found = process.returncode != 0 and "ServiceError" in output and kept is not None
    reliability(
        f"*control*: {name} with a fault where `{code}` is refused",
        "found, and its bytes kept",
        f"found: {found}",
        found,
    )
    Path(kept).unlink()
