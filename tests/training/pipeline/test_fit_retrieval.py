"""A retrieval task from its data to a store: trained, scored, reported, exported, compared and published.

Covers training.report.retrieval_report_data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from safetensors.numpy import load
from typer.testing import CliRunner

from model_store import ItemScores, ManifestDraft, Pattern, Precision, Store, blob_of, publish
from training.cli import NOT_LIVE, app
from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import ConfigError, RunError
from training.learning.run_folder import read_json
from training.learning.runs import load_trained
from training.pipeline.fit import fit
from training.pipeline.reopen import evaluate_again

Make = Callable[..., TaskConfig]
VIEWS = {"overall", "both", "image", "text"}
RECALLS = {"recall_at_1", "recall_at_5", "recall_at_10"}


@pytest.fixture
def config_file(retrieval_config: Make, tmp_path: Path) -> Callable[..., Path]:
    def write(**fields) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(yaml.safe_dump(retrieval_config(**fields).model_dump(mode="json")))
        return path

    return write


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.mark.parametrize("method", ["mora", "lora", "head", "full"])
def test_a_run_writes_scores_by_pattern_and_opens_again(retrieval_config: Make, tmp_path: Path, method: str) -> None:
    config = retrieval_config(method=method)
    data = load_data(config)

    trained = fit(config, data, tmp_path)

    metrics = read_json(tmp_path / "metrics.json")
    assert set(metrics["test"]) == set(metrics["baselines"]["test"]) == VIEWS
    assert set(metrics["test"]["overall"]) > RECALLS
    assert metrics["targets"] == {"validation": 11, "test": 11}
    assert metrics["result"] == method
    history = read_json_list(tmp_path / "history.json")
    assert {"eval_recall_at_1", "eval_selection", "eval_log_loss"} <= set(history[0] | history[1])
    again, is_saved = evaluate_again(tmp_path, load_trained(tmp_path), data)
    assert is_saved
    for view, row in metrics["test"].items():  # `fit` encodes from outputs of the trunks, whose last digits differ
        assert again["test"][view] == pytest.approx(row, abs=1e-4)
    assert again["baselines"] == metrics["baselines"]
    assert load_trained(tmp_path).labels == trained.labels == ()


def read_json_list(path: Path) -> list[dict[str, float]]:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_training_finds_more_targets_than_the_frozen_features(retrieval_config: Make, tmp_path: Path) -> None:
    train = {"epochs": 60, "batch_size": 24, "learning_rate": 3e-2, "probe": True}
    config = retrieval_config(method="head", train=train)
    training_as_validation = {**config.data.model_dump(), "validation": config.data.train}
    config = config.model_copy(update={"data": config.data.model_validate(training_as_validation)})

    fit(config, load_data(config), tmp_path)

    metrics = read_json(tmp_path / "metrics.json")
    validation, frozen = metrics["validation"]["overall"], metrics["baselines"]["validation"]["overall"]
    assert metrics["result"] == "head"
    assert validation["recall_at_1"] > frozen["sum"] + 0.2


def test_the_sum_of_features_is_kept_if_training_does_not_beat_it(retrieval_config: Make, tmp_path: Path) -> None:
    config = retrieval_config(train={"epochs": 1, "batch_size": 8, "learning_rate": 1e-12, "probe": True})
    notes: list[str] = []

    trained = fit(config, load_data(config), tmp_path, notes.append)

    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["result"] == "sum of features"
    assert any(
        "the sum of the frozen features is the result: compared with that sum, the loss" in note for note in notes
    )
    assert trained.config.method == "head"
    weight = trained.model.head.weight.detach()
    image, text = weight.chunk(2, dim=1)
    assert image.count_nonzero() == text.count_nonzero() == 24
    assert load_trained(tmp_path).model.head.weight.equal(weight)


def test_a_retrieval_task_trains_in_one_process(
    retrieval_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = retrieval_config()
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(ConfigError, match="trains in one process"):
        fit(config, load_data(config), tmp_path)


@pytest.mark.slow
def test_a_killed_run_resumes(retrieval_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = retrieval_config()
    data = load_data(config)
    whole = fit(config, data, tmp_path / "whole", lambda _: None)
    train_step = torch.optim.AdamW.step
    steps = iter(range(4))  # of six

    def killed(*arguments, **options):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return train_step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config, data, tmp_path / "run", lambda _: None)

    resumed = fit(config, data, tmp_path / "run", lambda _: None)

    assert resumed.model.head.weight.equal(whole.model.head.weight)


@pytest.mark.slow
def test_a_task_is_published_with_its_vectors(config_file: Callable[..., Path], tmp_path: Path) -> None:
    path, store = config_file(), Store(tmp_path / "store")

    done = run("fit", path, "--output", tmp_path / "run", "--publish", store.root)

    assert done.exit_code == 0, done.output
    assert "Recall@1" in done.output
    assert "nearest of 11" in done.output
    assert "things version 1 is live" in done.output
    assert re.search(r"int8 (accepted|not published)", done.output)
    assert re.search(r"both: \d+ of \d+ answers changed, recall@1 [+-]", done.output)
    manifest = store.verify("things")
    assert (manifest.problem, manifest.labels, manifest.embedding_size) == ("retrieval", (), 24)
    assert manifest.label_sets is None
    assert {calibration.temperature for calibration in manifest.calibration.values()} == {1.0}
    for example in manifest.golden:
        assert np.linalg.norm(example.logits) == pytest.approx(1, abs=1e-5)
    assert not any(array.any() for array in load(store.read(manifest.absent_features)).values())
    assert load(store.read(manifest.head))["text.weight"].shape == (24, 48)
    assert max(manifest.graphs[Precision.FP32].max_logit_error.values()) < 1e-4
    assert set(manifest.metrics["test"]["both"]) > RECALLS
    scores = store.test_scores(manifest)
    assert isinstance(scores, ItemScores)
    assert (scores.metric, scores.majority_label) == ("recall_at_1", None)
    for pattern in Pattern:
        known = [score for score in scores.patterns[pattern] if score is not None]
        row = manifest.metrics["test"][pattern]
        assert (len(known), np.mean(known)) == (row["items"], pytest.approx(row["recall_at_1"], abs=1e-6))

    again = run("publish", tmp_path / "run", "--store", store.root)
    assert again.exit_code == 0, again.output
    assert "compared with version 1, which is live, on the same test items" in again.output
    assert "share of queries whose target is the nearest" in again.output


@pytest.mark.slow
def test_a_worse_version_does_not_become_live(config_file: Callable[..., Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert run("fit", config_file(), "--output", tmp_path / "run", "--publish", store.root).exit_code == 0
    manifest = store.manifest("things")
    scores = store.test_scores(manifest)
    right = {p: tuple(None if each is None else 1.0 for each in row) for p, row in scores.patterns.items()}
    assert sum(sum(filter(None, row)) for row in scores.patterns.values()) < 15, "the tiny model finds few targets"
    better = scores.model_copy(update={"patterns": right}).model_dump_json().encode()
    draft = manifest.model_dump(exclude={"version"}) | {"test_scores": blob_of(better)}
    blobs = {blob.sha256: store.read(blob) for blob in manifest.blobs()} | {blob_of(better).sha256: better}
    publish(store, ManifestDraft.model_validate(draft), blobs)

    worse = run("publish", tmp_path / "run", "--store", store.root)

    assert worse.exit_code == NOT_LIVE, worse.output
    assert store.live("things") == 2


def test_the_report_shows_recall_and_the_nearest_targets(retrieval_config: Make, tmp_path: Path) -> None:
    config = retrieval_config()

    fit(config, load_data(config), tmp_path)

    page = (tmp_path / "report.html").read_text()
    assert "Recall@5" in page
    assert "retrieval task; the result is: mora" in page
    assert "The sum of the frozen features scores" in page
    assert re.search(r"a thing, 2\d\d", page), "the text of a target"
    assert "nearest:" in page
    for section in ('id="calibration"', 'id="labels"', 'id="confusion"', "Calibration error"):
        assert section not in page


def test_runs_are_compared_with_methods_alone(config_file: Callable[..., Path], tmp_path: Path) -> None:
    path, folder = config_file(train={"epochs": 1, "batch_size": 8}), tmp_path / "compared"
    words = ["--seeds", "0", "--search", "nothing", "--output", folder]

    done = run("compare", path, "--methods", "ours", "head", *words)

    assert done.exit_code == 0, done.output
    compared = read_json(folder / "comparison.json")
    assert compared["metric"] == "recall_at_1"
    assert list(compared["methods"]) == ["frozen picture", "frozen text", "frozen sum", "ours", "head"]
    run_metrics = read_json(next((folder / "runs").glob("ours*/metrics.json")))
    frozen = compared["methods"]["frozen sum"]["test"]["both"]["recall_at_1"]
    assert frozen == [run_metrics["baselines"]["test"]["both"]["sum"]]
    assert "| frozen text |" in (folder / "comparison.md").read_text()
    refused = run("compare", path, "--methods", "tfidf", *words)
    assert refused.exit_code == 1
    assert "tfidf answers with labels, and things is a retrieval task; leave it out" in refused.output


@pytest.mark.slow
def test_a_finished_run_is_evaluated_analysed_and_exported(config_file: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("fit", config_file(), "--output", folder).exit_code == 0

    grid = run("evaluate", folder, "--grid", "--output", tmp_path)
    analysed = run("analyse", folder)
    exported = run("export", folder, "--output", tmp_path / "files", "--export.precisions", "[]")

    assert [each.exit_code for each in (grid, analysed, exported)] == [0, 0, 0], analysed.output
    assert "recall_at_1 by missing modality" in grid.output
    assert "What training changed" in (folder / "report.html").read_text()
    assert json.loads((tmp_path / "files/manifest.json").read_text())["embedding_size"] == 24
    for words, says in (
        (("evaluate", folder, "--error-cost", "5"), "which has no label sets to review; leave out --error-cost"),
        (("export", folder, "--output", tmp_path / "one", "--single-file"), "--single-file is for tasks with labels"),
        (
            ("import", tmp_path / "task.yaml", tmp_path, "--output", tmp_path / "x"),
            "takes models that answer with labels",
        ),
    ):
        refused = run(*words)
        assert refused.exit_code == 1
        assert says in refused.output


def test_show_counts_the_weights_of_the_vector(config_file: Callable[..., Path]) -> None:
    shown = run("show", config_file(method="head"))

    assert shown.exit_code == 0, shown.output
    assert "things (retrieval, vectors of 24)" in shown.output
    assert f"{(2 * 24 + 1) * 24:,}" in shown.output


def test_a_search_tries_learning_rates(config_file: Callable[..., Path], tmp_path: Path) -> None:
    done = run(
        "fit", config_file(train={"epochs": 1, "batch_size": 8}), "--output", tmp_path / "run", "--search", "0.01"
    )

    assert done.exit_code == 0, done.output
    trials = read_json(tmp_path / "run-search/search.json")["trials"]
    assert trials[0]["values"]["train.learning_rate"] > 0
    assert "recall_at_1" in trials[0]["scores"]
    assert (tmp_path / "run/metrics.json").is_file()


def test_folds_score_a_retrieval_task(config_file: Callable[..., Path], pairs: dict[str, str], tmp_path: Path) -> None:
    path = config_file(data={"train": pairs["train"], "validation": pairs["validation"]}, missing={})

    done = run("fit", path, "--folds", "2", "--output", tmp_path / "folds", "--train.epochs", "1")

    assert done.exit_code == 0, done.output
    scores = read_json(tmp_path / "folds/folds.json")["test"]["overall"]
    assert len(scores["recall_at_1"]) == 2


@pytest.mark.slow
def test_other_data_is_scored_without_the_baselines(
    retrieval_config: Make, pairs: dict[str, str], tmp_path: Path
) -> None:
    config = retrieval_config()
    fit(config, load_data(config), tmp_path)
    other = load_data(retrieval_config(data={**pairs, "test": pairs["train"]}))

    metrics, is_saved = evaluate_again(tmp_path, load_trained(tmp_path), other)

    assert not is_saved
    assert "baselines" not in metrics
    assert metrics["targets"]["test"] == 23
    with pytest.raises(RunError, match="other data"):
        fit(config, other, tmp_path)
