"""The three commands: usage errors in one line, and Ctrl-C while their packages load.

Covers model_store.__main__, service.__main__, training.__main__.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from model_store.cli import app as store
from service.cli import app as serve
from tests.support.sampling import each
from training.cli import app as train

ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import importlib.abc, os, runpy, signal, sys, time

module, package = sys.argv[1:3]
del sys.argv[1:3]

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == package:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

sys.meta_path.insert(0, Interrupt())
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (train, ["fit"]),
        (train, ["fit", "task.yaml"]),
        (train, ["imprt", "task.yaml"]),
        (train, ["import", "task.yaml", "--output", "run"]),
        (train, ["compare", "task.yaml", "--seeds", "one"]),
        (serve, ["run", "--no-such-setting", "1"]),
        (serve, ["run", "--port", "many"]),
        (serve, ["classify"]),
        (serve, ["classify", "--text", "a", "--top-k", "0"]),
        (serve, ["hash-key"]),
        (store, ["show"]),
        (store, ["activate", "fruit", "one"]),
        (store, ["verify", "--version", "1"]),
        (store, ["lst"]),
        (store, ["--quiet", "list"]),
    ],
)
def test_a_usage_error_is_one_line(app: typer.Typer, words: list[str]) -> None:
    result = CliRunner().invoke(app, words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert " --help\n" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("training", "pyarrow"),
        ("training", "pydantic"),
        ("training", "typer"),
        ("service", "fastapi"),
        ("service", "onnxruntime"),
        ("model_store", "pydantic"),
        ("model_store", "cryptography"),
        ("model_store", "rich"),
    ],
)
@pytest.mark.slow
def test_ctrl_c_while_packages_load_leaves_no_traceback(module: str, package: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module, package]

    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "")


@pytest.mark.parametrize("module", ["training", "service", "model_store"])
@pytest.mark.slow
def test_a_loaded_command_leaves_ctrl_c_to_the_program(module: str) -> None:
    script = (
        f"import signal; before = signal.getsignal(2); import {module}.__main__ as entry, {module}.cli as commands; "
        "commands.app = lambda: print(signal.getsignal(2) is before); entry.main()"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "True\n"


@pytest.mark.parametrize("package", each(["torch", "transformers", "onnxruntime"], tried=["torch", "onnxruntime"]))
@pytest.mark.slow
def test_ctrl_c_while_training_loads_its_packages_is_one_line(
    package: str, tmp_path: Path, tiny_backbone: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(40)))
    values = {"task": "t", "problem": "single_label", "backbone": str(tiny_backbone)}
    (tmp_path / "task.yaml").write_text(json.dumps({**values, "data": {"train": "rows.csv", "image": None}}))
    words = ["fit", str(tmp_path / "task.yaml"), "--output", str(tmp_path / "run"), "--train.epochs", "1"]
    words += ["--publish", str(tmp_path / "store")]
    command = [sys.executable, "-c", INTERRUPTED, "training", package, *words]

    stopped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in stopped.stderr
