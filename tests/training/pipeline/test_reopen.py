"""Finished runs, opened again: with their own data, with data that moved, and refused with the cure."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model_store import Store
from training.cli import app
from training.config import MissingConfig, TaskConfig
from training.data.golden import small_png
from training.data.missing import Table, draw_table, natural_table
from training.data.splits import Split, TaskData, load_data
from training.errors import ConfigError, RunError
from training.learning.evaluation import evaluate_splits
from training.learning.run_folder import read_json, write_json
from training.pipeline.fit import fit
from training.pipeline.reopen import evaluate_again, open_finished, reopen

Make = Callable[..., TaskConfig]


@pytest.fixture(scope="module")
def finished(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, folder = make_config(train={"epochs": 1, "batch_size": 8}), tmp_path_factory.mktemp("finished")
    fit(config, load_data(config), folder, lambda _: None)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, of the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.slow
def test_a_run_that_moved_is_evaluated_on_data_that_moved(run: Path, make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    before = read_json(run / "metrics.json")
    moved = run.rename(tmp_path / "elsewhere")
    splits = ("train", "validation", "test")
    copies = {name: shutil.copy(getattr(config.data, name), tmp_path / f"{name}.parquet") for name in splits}
    flags = [word for name, path in copies.items() for word in (f"--data.{name}", str(path))]

    result = CliRunner().invoke(app, ["evaluate", str(moved), *flags])

    assert result.exit_code == 0, result.output
    assert read_json(moved / "metrics.json")["test"] == before["test"]


@pytest.mark.slow
def test_evaluating_gives_an_older_run_the_scores_of_its_test_items(run: Path) -> None:
    scores = run / "test_scores.json"
    before = scores.read_bytes()
    scores.unlink()

    result = CliRunner().invoke(app, ["evaluate", str(run)])

    assert result.exit_code == 0, result.output
    assert scores.read_bytes() == before


def test_a_run_is_compared_with_its_own_version(run: Path, tmp_path: Path) -> None:
    store, shared = tmp_path / "store", ["--export.precisions", "[]", "--store", str(tmp_path / "store")]
    first = CliRunner().invoke(app, ["publish", str(run), *shared])
    again = CliRunner().invoke(app, ["publish", str(run), *shared])
    (run / "test_scores.json").unlink()
    older = CliRunner().invoke(app, ["publish", str(run), *shared])

    assert [result.exit_code for result in (first, again, older)] == [0, 0, 0]
    assert "not compared with a live version: the task has none" in first.output
    assert "compared with version 1, which is live, on the same test items (accuracy):" in again.output
    assert "not compared with a live version: an earlier release made this run" in older.output
    manifests = [Store(store).verify("colors", version) for version in (1, 2, 3)]
    assert manifests[0].test_scores == manifests[1].test_scores is not None
    assert manifests[2].test_scores is None
    assert Store(store).live("colors") == 3


@pytest.mark.parametrize("name", ["train.parquet", "./train.parquet"])
@pytest.mark.slow
def test_a_run_with_relative_paths_is_opened_from_another_directory(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = Path(str(make_config().data.train)).parent
    data = {split: str(Path(name).with_stem(split)) for split in ("train", "validation", "test")}
    monkeypatch.chdir(folder)
    config = make_config(data={**data, "label": "label"}, method="head", train={"epochs": 1, "batch_size": 8})
    fit(config, load_data(config), tmp_path / "run", lambda _: None)
    reopen(tmp_path / "run", config, load_data(config))
    monkeypatch.chdir(tmp_path)

    trained, _ = open_finished(tmp_path / "run", [], None, print)
    reopened = reopen(
        tmp_path / "run", make_config(method="head", train={"epochs": 1, "batch_size": 8}), load_data(make_config())
    )

    assert trained.config.data.train == str(folder / "train.parquet")
    assert reopened.config.data.test == str(folder / "test.parquet")


def test_scores_on_other_data_are_not_saved(run: Path, make_config: Make) -> None:
    before = (run / "metrics.json").read_text(), (run / "test_scores.json").read_text()
    notes: list[str] = []
    flags = ["--data.test", str(make_config().data.validation)]

    trained, data = open_finished(run, flags, None, notes.append)
    metrics, saved = evaluate_again(run, trained, data)

    assert (saved, notes) == (False, [f"this is not the data that {run} was trained with", *data.notes])
    assert any("9 of the 9 rows of test repeat rows of validation" in note for note in notes)  # it is the same file
    assert metrics["test"] == metrics["validation"] or metrics["test"]["overall"]["items"] == 9
    assert ((run / "metrics.json").read_text(), (run / "test_scores.json").read_text()) == before


def test_only_data_export_and_publish_can_be_changed_after_training(run: Path, make_config: Make) -> None:
    with pytest.raises(ConfigError, match=r"--train\.epochs cannot be changed after training"):
        open_finished(run, ["--train.epochs", "3"], None, print)

    trained, _ = open_finished(run, ["--export.precisions", "[fp16]", "--publish.report=false"], None, print)
    again = reopen(
        run, make_config(train={"epochs": 1, "batch_size": 8}, export={"accuracy_budget": 3}), load_data(trained.config)
    )

    assert trained.config.export.precisions == ("fp16",)
    assert trained.config.publish.model_dump() == {"examples": True, "report": False}
    assert again.config.export.accuracy_budget == 3


def test_a_run_of_data_that_has_changed_is_refused_with_the_cure(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(config: TaskConfig) -> object:
        data = load_data(config)
        return dataclasses.replace(data, train=Split("train", "made", data.train.items[1:]))

    monkeypatch.setattr("training.pipeline.reopen.load_data", changed)

    with pytest.raises(RunError, match=r"has changed since it was trained: row \d+ .*; add --data\.test PATH"):
        open_finished(run, [], None, print)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a folder; name the DIR of"):
        open_finished(tmp_path / "shp", [], None, print)
    with pytest.raises(RunError, match="holds no run; name the DIR of `mora-train fit --output DIR`"):
        open_finished(tmp_path, [], None, print)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="is not a finished run; give the same"):
        open_finished(tmp_path, [], None, print)


def make_older(run: Path, data: TaskData) -> None:
    """Give a run the fingerprint of an earlier version."""
    old = hashlib.sha256("".join(split.old_fingerprint for split in data.splits().values()).encode()).hexdigest()
    for name, field in (("task.json", "dataset_fingerprint"), ("config.json", "data")):
        write_json(run / name, read_json(run / name) | {field: old})


def test_a_run_of_an_earlier_version_is_opened_and_evaluated_with_its_tables(
    run: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables may have been drawn in another way; its scores are those on the tables that it saved."""
    data, tables = load_data(make_config()), {}
    make_older(run, data)
    for name, split in data.splits().items():
        (saved,) = (run / "missing_tables").glob(f"colors_{name}_*.npy")
        tables[name] = draw_table(natural_table(split), MissingConfig(ratio=0.5, seed=9))
        assert (tables[name] != np.load(saved)).any()
        np.save(saved, tables[name])
    used: dict[str, Table] = {}

    def noted(*arguments: Any) -> dict[str, Any]:
        used.update(arguments[2])
        return evaluate_splits(*arguments)

    monkeypatch.setattr("training.pipeline.reopen.evaluate_splits", noted)
    notes: list[str] = []

    trained, opened = open_finished(run, [], None, notes.append)
    _, saved_scores = evaluate_again(run, trained, opened)

    assert (notes, saved_scores) == ([], True)
    assert all((used[name] == table).all() for name, table in tables.items())
    assert reopen(run, trained.config, opened).dataset_fingerprint == trained.dataset_fingerprint


@pytest.mark.parametrize("publish", [{"examples": False}, {"report": False}, {"examples": False, "report": False}])
@pytest.mark.slow
def test_a_finished_run_is_published_without_its_examples_or_its_report(
    run: Path, tmp_path: Path, publish: dict[str, bool]
) -> None:
    """A run that was trained with both: neither words nor pictures of its data are in the store."""
    flags = [f"--publish.{name}={str(value).lower()}" for name, value in publish.items()]
    data = open_finished(run, [], None, print)[1]

    result = CliRunner().invoke(app, ["publish", str(run), "--store", str(tmp_path / "store"), *flags])

    assert result.exit_code == 0, result.output
    store = Store(tmp_path / "store")
    manifest = store.verify("colors", 1)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    texts = {item.text for split in data.splits().values() for item in split.items if item.text}
    assert any(text.encode() in stored for text in texts) is manifest.shows_examples
    pictures = {small_png(item.image) for item in data.validation.items if item.image}
    golden = {store.read(example.image) for example in manifest.golden if example.image}
    assert bool(golden & pictures) is manifest.shows_examples is publish.get("examples", True)
    assert (manifest.report is not None) is publish.get("report", True)
    if manifest.report is not None:
        assert b"data:image/jpeg" not in store.read(manifest.report)


@pytest.mark.parametrize("flags", [[], ["--publish.examples", "false"]])
@pytest.mark.slow
def test_the_report_of_an_earlier_version_is_not_published(run: Path, tmp_path: Path, flags: list[str]) -> None:
    (run / "report.html").write_text(f"<html><pre>train: {tmp_path}/train.parquet</pre></html>")

    result = CliRunner().invoke(app, ["publish", str(run), "--store", str(tmp_path / "store"), *flags])

    assert result.exit_code == 0, result.output
    assert f"published without the report of {run}" in " ".join(result.stderr.split())
    assert Store(tmp_path / "store").manifest("colors", 1).report is None


@pytest.fixture
def run_with_sets(make_config: Make, divisible: dict[str, str], tmp_path: Path) -> Callable[..., Path]:
    """`run_with_sets(**fields)`: a finished run of a task with 120 validation items, half of which calibrate."""

    def make(**fields: Any) -> Path:
        config = make_config(**{"method": "head", "data": divisible, "train": {"epochs": 1}, **fields})
        fit(config, load_data(config), tmp_path / "run", lambda _: None)
        return tmp_path / "run"

    return make


@pytest.mark.parametrize("coverage", [{}, {"by": "class"}, {"share": 0.3}], ids=str)
@pytest.mark.slow
def test_evaluating_again_gives_the_same_coverage(
    run_with_sets: Callable[..., Path], coverage: dict[str, object]
) -> None:
    run = run_with_sets(coverage=coverage)
    before = read_json(run / "metrics.json")
    write_json(run / "metrics.json", before | {"coverage": {}, "validation": {}})
    trained, data = open_finished(run, [], None, print)

    metrics, saved = evaluate_again(run, trained, data)

    assert saved
    assert read_json(run / "metrics.json") == before
    assert metrics["validation"]["overall"]["items"] == (84 if "share" in coverage else 60)
    assert set(metrics["coverage"]) == {"both", "image", "text"}


@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
@pytest.mark.slow
def test_a_run_from_before_label_sets_is_opened_evaluated_and_finished(
    run_with_sets: Callable[..., Path], divisible: dict[str, str], problem: str
) -> None:
    """All its validation items chose the model, and all are scored again."""
    data = {**divisible, "label": "labels" if problem == "multi_label" else "label"}
    run = run_with_sets(problem=problem, data=data, coverage={"share": 0})
    before = {name: scores for name, scores in read_json(run / "metrics.json").items() if "coverage" not in name}
    described, started = read_json(run / "task.json"), read_json(run / "config.json")
    for fields in (described["task_config"], started["config"]):
        del fields["coverage"]
    del described["label_sets"]
    for name, values in (("task.json", described), ("config.json", started), ("metrics.json", before)):
        write_json(run / name, values)

    trained, opened = open_finished(run, [], None, print)
    metrics, saved = evaluate_again(run, trained, opened)

    assert (saved, trained.label_sets, trained.config.coverage.share) == (True, None, 0)
    assert read_json(run / "metrics.json") == before | {"coverage": {}}
    assert metrics["validation"]["overall"]["items"] == 120
    (run / "metrics.json").unlink()  # as if it had been killed
    fit(trained.config, opened, run, lambda _: None)
    assert read_json(run / "metrics.json")["validation"] == before["validation"]


@pytest.mark.parametrize("costs", [["--error-cost", "10"], ["--error-cost", "10", "--review-cost", "2"]], ids=str)
@pytest.mark.slow
def test_the_command_prints_the_coverage_to_ask_for(run_with_sets: Callable[..., Path], costs: list[str]) -> None:
    run = run_with_sets()
    before = (run / "metrics.json").read_bytes()

    result = CliRunner().invoke(app, ["evaluate", str(run), *costs], env={"COLUMNS": "160"})

    assert result.exit_code == 0, result.output
    assert "expected cost of an item, from 60 validation items" in result.output
    assert "ask for a coverage of" in result.output or "no coverage is expected to cost less than" in result.output
    assert all(row in result.output for row in ("no review", "review of all", "coverage 0."))
    review = costs[-1] if "--review-cost" in costs else "1"
    assert f"review of all {review}" in result.output
    assert (run / "metrics.json").read_bytes() == before


def test_a_run_without_label_sets_has_no_coverage_to_ask_for(run: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(run), "--error-cost", "10"])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {run} has no label sets, so no coverage can be chosen; train it again")
