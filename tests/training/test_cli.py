"""The commands: their output for an error, for Ctrl-C and for --help."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
import yaml
from click.testing import Result
from safetensors import SafetensorError
from typer.testing import CliRunner

import training.cli
from model_store import ItemScores, Pattern, blob_of, rollback, withdraw
from model_store.cli import app as mora_store
from tests.support.snapshot import contents
from tests.support.tiny import Shelf
from training.cli import NOT_LIVE, app
from training.config import TaskConfig
from training.data.splits import Split, TaskData
from training.errors import ConfigError, DataError
from training.export.bundle import Bundle
from training.learning.compared_methods import ALL
from training.learning.run_folder import METRICS
from training.model.file_names import RUN_DESCRIPTION


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SafetensorError("No space left on device (os error 28)"), "make room on the disk and give the same command"),
        (SafetensorError("Error while deserializing header: header too small"), "file of weights is damaged: Error"),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file\nframe"), "make room on the disk"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"), "too little memory; try again"),
        (MemoryError(), "smaller --train.batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), "--train.batch_size"),
        (DataError("it has im\x1b[31mg\x07"), "it has im\\x1b[31mg\\x07"),
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


@pytest.mark.slow
def test_what_needs_no_training_imports_no_torch(task_file: Path) -> None:
    lines = [[word.format(task=task_file, folder=task_file.parent) for word in line] for line in (*SHOWN, *REFUSED)]
    code = (
        "import contextlib, io, json, sys\nfrom training.__main__ import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:], errors, code = line, io.StringIO(), 0\n"
        "    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):\n"
        "        try:\n            main()\n"
        "        except SystemExit as ended:\n            code = ended.code or 0\n"
        "    loaded = [name for name in ('torch', 'transformers') if name in sys.modules]\n"
        "    print(json.dumps([line, code, errors.getvalue()[:6], loaded]))"
    )

    done = subprocess.run([sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, check=False)

    shown, refused = (0, "", []), (1, "error:", [])
    expected = [[line, *(shown if number < len(SHOWN) else refused)] for number, line in enumerate(lines)]
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected, done.stderr


@pytest.mark.slow
def test_what_trains_no_adapter_imports_no_library_of_training() -> None:
    modules = ("training.pipeline.fit", "training.pipeline.reopen", "training.export.bundle")
    slow = ("peft", "datasets", "torchmetrics", "onnxscript", "transformers.trainer", "transformers.training_args")
    script = f"import sys, {', '.join(modules)}; print([name for name in {slow} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


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
    ("words", "methods"),
    [
        (["--methods", "head", "ours", "--seeds", "0", "1", "--train.epochs", "3"], ["head", "ours"]),
        (
            ["--methods=head", "--methods", "ours", "--train.epochs", "3", "--seeds", "0", "--seeds", "1"],
            ["head", "ours"],
        ),
        (["--methods", "all", "--seeds", "0", "1", "--train.epochs", "3"], [*ALL]),
        (["--seeds", "0", "1", "--train.epochs", "3"], [*ALL]),
    ],
)
def test_several_values_follow_one_option_and_the_rest_are_fields(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], methods: list[str]
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
        return TaskConfig.model_construct(task="a", problem="single_label", backbone="b")

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
    assert calls == {"compare": (methods, [0, 1]), "flags": ["--train.epochs", "3"]}


def test_a_flag_before_the_run_is_explained() -> None:
    result = CliRunner().invoke(app, ["evaluate", "--data.test", "x.csv"])

    assert (result.exit_code, result.stderr) == (1, "error: DIR comes first, then flags such as --data.test\n")


@pytest.mark.parametrize("option", ["--error-cost", "--review-cost"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "dear"])
def test_a_cost_is_a_number_above_0(option: str, value: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "run", option, value])

    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--review-cost", "1"], "--review-cost needs --error-cost"),
        (["--output", "scores"], "--output is for the files of --grid; add --grid, or leave it out"),
        (["--force"], "--force is for the files of --grid"),
        (["--grid", "--error-cost", "10"], "--grid and --error-cost print different tables"),
        (["--error-cost", "10", "--grid", "--review-cost", "2"], "--grid and --error-cost print different tables"),
    ],
)
def test_options_of_evaluate_that_do_not_go_together_are_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "run", *options])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {message}")


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


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder that looks like a finished run, and cannot be opened."""
    run = tmp_path / "run"
    run.mkdir()
    for name in (METRICS, RUN_DESCRIPTION):
        (run / name).write_text("{")
    return run


@pytest.mark.parametrize(
    ("line", "file"),
    [
        (["export", "run", "--output", "."], "manifest.json"),
        (["evaluate", "run", "--grid", "--output", "."], "grid.json"),
        (["evaluate", "run", "--grid", "--output", "."], "grid.svg"),
        (["data", "task.yaml", "--output", "photo.png"], "photo.png"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else each,
)
def test_a_file_that_exists_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: Path, line: list[str], file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(file).write_text("mine")

    refused = CliRunner().invoke(app, line)
    forced = CliRunner().invoke(app, [*line, "--force"])  # goes on to the run or the configuration

    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert Path(file).read_text() == "mine"
    assert (forced.exit_code, "--force" in forced.stderr) == (1, False), forced.output


def test_a_picture_does_not_replace_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task.yaml").write_text("task: fruit")

    result = CliRunner().invoke(app, ["data", "task.yaml", "--output", "task.yaml", "--force"])

    assert result.exit_code == 1
    assert "choose a name that ends in .png" in result.stderr
    assert Path("task.yaml").read_text() == "task: fruit"


TRAININGS = [["fit", "task.yaml", "--output", "run"], ["import", "task.yaml", "adapter", "--output", "run"]]


@pytest.mark.parametrize("line", TRAININGS, ids=lambda line: line[0])
@pytest.mark.parametrize(
    ("file", "store"), [("README.md", "README.md"), ("README.md", "README.md/store"), ("store/tasks", "store")]
)
def test_a_store_that_cannot_be_one_is_refused_before_the_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: list[str], file: str, store: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("mine")

    result = CliRunner().invoke(app, [*line, "--publish", store])  # there is no task.yaml

    assert result.exit_code == 1
    assert f"{file} is not a folder; name the folder of a store with --publish" in result.stderr


def test_a_store_that_cannot_be_one_is_refused_before_the_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("mine")

    published = CliRunner().invoke(app, ["publish", "run", "--store", "README.md"])
    exported = CliRunner().invoke(app, ["export", "run", "--output", "README.md"])

    assert (published.exit_code, exported.exit_code) == (1, 1)
    assert "README.md is not a folder; name the folder of a store with --store" in published.stderr
    assert "README.md is not a folder; choose another folder with --output" in exported.stderr


@pytest.mark.parametrize("line", TRAININGS, ids=lambda line: line[0])
@pytest.mark.parametrize("option", ["--sign-with", "--max-loss"])
def test_an_option_of_publish_needs_publish(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: list[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(mora_store, ["keygen", "1"]).exit_code == 0

    result = CliRunner().invoke(app, [*line, option, "1"])  # a key, and a number of points

    assert result.exit_code == 1
    assert result.stderr == f"error: {option} is for what --publish publishes; add --publish STORE\n"


def test_publish_takes_the_store_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MORA_STORE", str(tmp_path / "file"))
    of_environment = CliRunner().invoke(app, ["publish", str(finished)])
    monkeypatch.setenv("MORA_STORE", "oci://registry.example/shop/models:shop-kind")
    target = CliRunner().invoke(app, ["publish", str(finished)])

    assert f"{tmp_path / 'file'} is not a folder" in of_environment.stderr
    assert target.exit_code == 2
    assert "MORA_STORE" in target.stderr
    assert "a target is no folder on this machine; name a folder" in target.stderr


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


def bundle(shelf: Shelf, right: int, seed: int = 1) -> Bundle:
    """A version that answers the first ones of 50 test items right."""
    answers = tuple(float(row < right) for row in range(50))
    scores = ItemScores(
        metric="accuracy",
        items="a" * 64,
        majority_label="apple",
        majority=(1.0,) * 10 + (0.0,) * 40,
        patterns=dict.fromkeys(Pattern, answers),
    )
    draft, content = shelf.draft(seed=seed), scores.model_dump_json().encode()
    manifest = draft.manifest.model_copy(update={"test_scores": blob_of(content)})
    return Bundle(manifest, {**draft.blobs, blob_of(content).sha256: content}, (), scores)


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch, shelf: Shelf, tmp_path: Path) -> Callable[..., Result]:
    """`publishing(command, right, *options)`: the result of a command that publishes this version."""

    def run(command: str, right: int, *options: str, seed: int = 1) -> Result:
        line = {
            "fit": ["fit", "t.yaml", "--output", "run", "--publish"],
            "import": ["import", "t.yaml", "source", "--output", "run", "--publish"],
            "publish": ["publish", "run", "--store"],
        }[command]
        monkeypatch.setattr(training.cli, "_export", lambda *_: bundle(shelf, right, seed))
        return CliRunner().invoke(app, [*line, str(shelf.store.root), *options])

    for name in ("load_config", "load_data", "check_backbone", "print_import_plan", "_finished", "print_metrics"):
        monkeypatch.setattr(training.cli, name, MagicMock())
    for name in ("read_json", "require_finished", "_loaded"):
        monkeypatch.setattr(training.cli, name, MagicMock())
    monkeypatch.setattr("training.model.import_plan.plan_import", MagicMock())
    monkeypatch.setattr("training.pipeline.reopen.open_finished", lambda *_: (None, None))
    return run


@pytest.mark.parametrize("command", ["fit", "import", "publish"])
def test_garbage_is_collected_again_once_modules_are_imported(
    publishing: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    collected = []
    monkeypatch.setattr("training.pipeline.publish_gate.decide", lambda *_: collected.append(gc.isenabled()))

    publishing(command, 40)

    assert collected == [True]


@pytest.mark.parametrize("command", ["fit", "import", "publish"])
def test_a_worse_version_is_published_but_not_live(
    publishing: Callable[..., Result], shelf: Shelf, command: str
) -> None:
    assert publishing(command, 45).exit_code == 0

    worse = publishing(command, 5)

    root = shelf.store.root
    assert worse.exit_code == NOT_LIVE == 3
    assert worse.stderr.splitlines()[-1] == (
        f"fruit version 2 is published in {root}, but is not live (worse than the live one by more than --max-loss 1: "
        f"image and text, image only, text only); to make it live: mora-store activate fruit 2 --store {root}"
    )
    assert "note: image only: the version is no better than always answering 'apple'" in worse.stderr
    assert (shelf.store.live("fruit"), shelf.store.versions("fruit")) == (1, [1, 2])
    activate = worse.stderr.split("mora-store ")[-1].split()
    assert CliRunner().invoke(mora_store, activate).exit_code == 0
    assert shelf.store.live("fruit") == 2


@pytest.mark.parametrize("command", ["fit", "import", "publish"])
@pytest.mark.parametrize(
    ("right", "options"), [(46, ()), (45, ()), (5, ("--max-loss", "90")), (5, ("--max-loss", "inf"))]
)
def test_a_version_that_is_not_worse_by_more_than_it_may_is_live(
    publishing: Callable[..., Result], shelf: Shelf, command: str, right: int, options: tuple[str, ...]
) -> None:
    assert publishing(command, 45).exit_code == 0

    result = publishing(command, right, *options, seed=2)

    assert result.exit_code == 0, result.output
    assert "fruit version 2 is live in" in result.output
    assert shelf.store.live("fruit") == 2


@pytest.mark.parametrize("command", ["fit", "import"])
@pytest.mark.parametrize("then", ["nothing", "a rollback", "a withdrawal"])
def test_a_run_is_not_published_twice(publishing: Callable[..., Result], shelf: Shelf, command: str, then: str) -> None:
    """Also a rollback is not undone, as by a Job that is applied again."""
    assert publishing(command, 45).exit_code == 0
    assert publishing(command, 46).exit_code == 0
    if then == "a rollback":
        rollback(shelf.store, "fruit")
    elif then == "a withdrawal":
        withdraw(shelf.store, "fruit")
    before = contents(shelf.store.root)

    again = publishing(command, 46)

    assert contents(shelf.store.root) == before
    if then == "nothing":
        assert again.exit_code == 0
        assert "fruit version 2 is live in" in again.output
    else:
        assert again.exit_code == NOT_LIVE
        assert f"to make it live: mora-store activate fruit 2 --store {shelf.store.root}" in again.stderr


def test_an_explicit_publish_makes_a_new_version(publishing: Callable[..., Result], shelf: Shelf) -> None:
    assert publishing("publish", 45).exit_code == publishing("publish", 45).exit_code == 0

    assert (shelf.store.live("fruit"), shelf.store.versions("fruit")) == (2, [1, 2])


@pytest.mark.parametrize("damaged", ["manifest.json", "blob"])
def test_a_damaged_version_is_published_again(publishing: Callable[..., Result], shelf: Shelf, damaged: str) -> None:
    assert publishing("fit", 45).exit_code == 0
    blob = shelf.store.root / "blobs/sha256" / shelf.store.manifest("fruit").head.sha256
    path = blob if damaged == "blob" else shelf.store.root / "tasks/fruit/1/manifest.json"
    path.write_bytes(b"damaged")

    assert publishing("fit", 45).exit_code == 0

    assert shelf.store.verify("fruit", 2)
    assert shelf.store.live("fruit") == 2


@pytest.mark.parametrize("command", ["fit", "import", "publish"])
def test_a_version_of_a_withdrawn_task_is_not_live(
    publishing: Callable[..., Result], shelf: Shelf, command: str
) -> None:
    assert publishing(command, 45).exit_code == 0
    withdraw(shelf.store, "fruit")

    result = publishing(command, 50)

    assert result.exit_code == NOT_LIVE
    assert "is not live (the task is withdrawn); to make it live: mora-store activate fruit 2 --store" in result.stderr
    assert "is live in" not in result.output
    assert shelf.store.live("fruit") is None


def test_a_first_version_below_the_majority_label_is_live_and_named_so(
    publishing: Callable[..., Result], shelf: Shelf
) -> None:
    result = publishing("publish", 0)

    assert (result.exit_code, shelf.store.live("fruit")) == (0, 1)
    assert "note: text only: the version is worse than always answering 'apple': 0.0 % against 20.0 %" in result.stderr


@pytest.mark.parametrize("value", ["-1", "nan", "many", ""])
def test_the_loss_is_a_number_from_0_on(publishing: Callable[..., Result], shelf: Shelf, value: str) -> None:
    result = publishing("publish", 45, f"--max-loss={value}")

    assert result.exit_code == 2
    assert "--max-loss" in result.stderr
    assert shelf.store.tasks() == []
