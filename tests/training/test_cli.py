"""The commands: their output for an error, for Ctrl-C and for --help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from typer.testing import CliRunner

import training.cli
from training.cli import app
from training.config import TaskConfig
from training.data.splits import Split, TaskData
from training.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SafetensorError("No space left on device (os error 28)"), "make room on the disk and give the same command"),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file\nframe"), "make room on the disk"),
        (torch.OutOfMemoryError("CUDA out of memory"), "--train.batch_size"),
        (PermissionError(13, "Permission denied", "runs"), "runs: Permission denied; change its permissions"),
    ],
)
def test_an_error_of_the_machine_is_one_line_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("training.cli.load_config", fail)

    result = CliRunner().invoke(app, ["data", "task.yaml"])

    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


SHOWN = [
    ["--help"],
    ["fit", "--help"],
    ["compare", "--help"],
    ["show", "{task}"],
    ["data", "{task}"],
    ["data", "{task}", "--output", "{folder}/examples.png"],
]
REFUSED = [
    ["fit", "gone.yaml", "--output", "{folder}/run"],
    ["compare", "{task}", "--train.epoch", "3"],
    ["fit", "{task}", "--output", "{folder}/run", "--backbone", "{folder}"],
    ["fit", "{task}", "--output", "{folder}/run", "--mora.first_layer", "7"],
    ["show", "{task}", "--mora.target_modules", "[qkv]"],
    ["fit", "{task}", "--output", "{folder}/run", "--data.train", "{folder}/wrong.csv"],
    ["compare", "{task}", "--data.text", "caption"],
    ["import", "{task}", "lora", "--output", "{folder}/run", "--backbone", "nobody/no-such-model"],
    ["evaluate", "{folder}/gone"],
    ["publish", "{folder}"],
]


@pytest.fixture
def task_file(make_config: Callable[..., TaskConfig], tmp_path: Path) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(json.loads(make_config().model_dump_json())))
    (tmp_path / "wrong.csv").write_text("image,text,label\ngone.png,a,red\n")
    return path


@pytest.mark.parametrize("line", [*SHOWN, *REFUSED], ids=" ".join)
def test_what_needs_no_training_imports_no_torch(task_file: Path, line: list[str]) -> None:
    code = (
        "import sys\nfrom training.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    words = [word.format(task=task_file, folder=task_file.parent) for word in line]

    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert (done.returncode, done.stderr[:6]) == ((0, "") if line in SHOWN else (1, "error:"))


def test_a_wrong_signing_key_is_refused_before_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key")
    line = ["fit", str(tmp_path / "missing.yaml"), "--output", str(tmp_path / "run"), "--sign-with"]

    wrong = CliRunner().invoke(app, [*line, str(tmp_path / "key")])
    missing = CliRunner().invoke(app, [*line, str(tmp_path / "other")])

    assert (wrong.exit_code, missing.exit_code) == (1, 1)
    assert wrong.stderr == f"error: {tmp_path / 'key'} holds no private key in PEM; `mora-store keygen` creates one\n"
    assert missing.stderr.startswith(f"error: {tmp_path / 'other'}: No such file or directory")


def test_ctrl_c_is_one_line_that_says_how_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.cli.load_config", stop)

    result = CliRunner().invoke(app, ["data", "task.yaml"])

    assert (result.exit_code, result.stderr) == (130, "stopped; the same command goes on from here\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("training.cli.load_config", fail)

    assert isinstance(CliRunner().invoke(app, ["data", "task.yaml"]).exception, RuntimeError)


@pytest.mark.parametrize("command", ["show", "fit", "import", "compare", "data"])
def test_help_teaches_that_fields_are_flags(command: str) -> None:
    text = " ".join(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"}).output.split())

    assert "Any field of the configuration is a flag too" in text
    assert '--train.epochs 3 --mora.rank=8 --export.precisions "[int8, fp16]"' in text


@pytest.mark.parametrize(
    "words",
    [
        ["--methods", "head", "ours", "--seeds", "0", "1", "--train.epochs", "3"],
        ["--methods=head", "--methods", "ours", "--train.epochs", "3", "--seeds", "0", "--seeds", "1"],
    ],
)
def test_several_values_follow_one_option_and_the_rest_are_fields(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    calls: dict[str, Any] = {}

    def compared(runs: object, methods: list[str], seeds: list[int], search: bool) -> dict[str, Any]:
        calls["compare"] = (methods, seeds)
        return {}

    def written(folder: Path, comparison: object, command: list[str]) -> None:
        folder.mkdir()
        (folder / "comparison.md").write_text("")

    def loaded(path: Path, flags: list[str]) -> Any:
        calls["flags"] = flags
        return TaskConfig.model_construct(task="a", backbone="b")

    monkeypatch.setattr(training.cli, "load_config", loaded)
    monkeypatch.setattr(
        training.cli,
        "load_data",
        lambda task: TaskData((), *(Split(name, "", []) for name in ("train", "validation", "test"))),
    )
    monkeypatch.setattr("training.pipeline.compare.compare", compared)
    monkeypatch.setattr("training.report.comparison_report.write_comparison", written)
    monkeypatch.setattr(training.cli, "check_backbone", lambda task: None)
    monkeypatch.setattr(training.cli, "open_preview", lambda backbone: None)
    monkeypatch.setattr(training.cli, "cut_text_notes", lambda data, preview: [])

    result = CliRunner().invoke(app, ["compare", "task.yaml", "--output", str(tmp_path / "out"), *words])

    assert result.exit_code == 0, result.output
    assert calls == {"compare": (["head", "ours"], [0, 1]), "flags": ["--train.epochs", "3"]}


def test_a_flag_before_the_run_is_explained() -> None:
    result = CliRunner().invoke(app, ["evaluate", "--data.test", "x.csv"])

    assert (result.exit_code, result.stderr) == (1, "error: DIR comes first, then flags such as --data.test\n")


@pytest.mark.parametrize(
    "line",
    [
        ["data", "task.yaml"],
        ["show", "task.yaml"],
        ["import", "task.yaml", "adapter", "--output", "run"],
        ["evaluate", "run"],
        ["export", "run", "--output", "out"],
        ["publish", "run"],
    ],
    ids=lambda line: line[0],
)
def test_a_command_whose_processes_would_write_the_same_files_runs_in_one(
    monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")

    result = CliRunner().invoke(app, line)

    assert result.exit_code == 1
    assert result.stderr == (
        f"error: `mora-train {line[0]}` runs in one process, not in 3; start it without torchrun\n"
    )


@pytest.mark.parametrize("command", ["fit", "compare"])
@pytest.mark.parametrize(("rank", "notes"), [("0", 1), ("1", 0), ("2", 0)])
def test_the_notes_of_several_processes_are_printed_once(
    monkeypatch: pytest.MonkeyPatch, command: str, rank: str, notes: int
) -> None:
    def loaded(_: object) -> TaskData:
        split = Split("train", "made", [])
        return TaskData(("a", "b"), split, split, split, notes=("the data has faults",))

    def stop(*_: object, **__: object) -> None:
        raise ConfigError("stopped here")

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", rank)
    values = {"task": "t", "problem": "single_label", "backbone": "b", "data": {"train": "t.csv"}}
    monkeypatch.setattr("training.cli.load_config", lambda *_: TaskConfig.model_validate(values))
    monkeypatch.setattr("training.cli.load_data", loaded)
    monkeypatch.setattr(f"training.pipeline.{command}.{command}", stop)
    monkeypatch.setattr("training.cli.check_backbone", lambda task: None)
    monkeypatch.setattr("training.cli.open_preview", lambda backbone: None)
    monkeypatch.setattr("training.cli.cut_text_notes", lambda data, preview: [])

    result = CliRunner().invoke(app, [command, "task.yaml", "--output", "run-of-no-task"])

    assert result.stderr.count("note: the data has faults") == notes
    assert "stopped here" in result.stderr
