"""Comparisons: every method is searched alike, seeds are paired, and finished runs are not run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, DivergedError, RunError
from training.learning.compared_methods import ALL, METHODS, NAMES
from training.pipeline import compare as module
from training.pipeline import kept_runs
from training.pipeline.compare import Runs, compare, partitions_of, start_rate, variant

Make = Callable[..., TaskConfig]


def compared(
    config: TaskConfig,
    folder: Path,
    methods: list[str],
    seeds: list[int] = [0],  # noqa: B006
    search: bool = True,
) -> dict[str, Any]:
    return compare([Runs(config, load_data(config), folder, lambda _: None)], methods, seeds, search)


def run_with(folder: Path, accuracy: float | None) -> None:
    views = {view: {"accuracy": accuracy} for view in ("overall", "both", "image", "text")}
    metrics = {"validation": views, "test": views, "trainable_parameters": 1, "seconds": {"train": 1.0}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """Runs are not trained, but scored: the nearer the learning rate is to 0.003, the better. The list of all runs."""
    ran: list[tuple[str, float, int]] = []

    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        rate = config.train.learning_rate
        ran.append((folder.name.partition("_")[0], rate, config.train.seed))
        run_with(folder, 1 - abs(np.log(rate / 0.003)) / 10)

    monkeypatch.setattr(kept_runs, "fit", score)
    return ran


def test_the_search_continues_while_the_best_rate_is_at_an_edge(
    make_config: Make, tmp_path: Path, scored: list
) -> None:
    result = compared(make_config(train={"learning_rate": 0.03}), tmp_path, ["lora"])

    assert [rate for _, rate, _ in scored] == [0.00949, 0.03, 0.0949, 0.003, 0.000949, 0.003]
    assert result["methods"]["lora"]["learning_rate"] == pytest.approx(0.003)


def test_every_method_is_searched_alike(make_config: Make, tmp_path: Path, scored: list) -> None:
    compared(make_config(train={"learning_rate": 0.003}), tmp_path, ["lora", "head", "ours"])

    rates = {name: [rate for ran, rate, _ in scored if ran == name] for name in ("lora", "head", "ours")}
    assert rates["lora"] == rates["head"] == rates["ours"] == [0.000949, 0.003, 0.00949, 0.003]


def test_full_fine_tuning_is_searched_a_hundred_times_lower(make_config: Make, tmp_path: Path, scored: list) -> None:
    compared(make_config(train={"learning_rate": 0.3}), tmp_path, ["full"])

    assert [rate for _, rate, _ in scored][:3] == [0.000949, 0.003, 0.00949]


@pytest.mark.parametrize("method", ["lora", "head", "mora-official", "mora-without-gram"])
def test_methods_without_the_probe_begin_at_the_papers_rate_unless_one_is_given(make_config: Make, method: str) -> None:
    assert start_rate(make_config(train={}), method) == 1e-2
    assert start_rate(make_config(train={"learning_rate": 0.05}), method) == 0.05
    assert start_rate(make_config(train={}), "ours") == make_config(train={}).train.learning_rate


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("ours")])
def test_published_methods_are_compared_without_the_probe(make_config: Make, method: str) -> None:
    config = make_config(train={"probe": True, "patience": 0.25})

    train = variant(config, method, 0.01, 0).train

    assert (train.probe, train.patience) == (False, None)
    assert variant(config, "ours", 0.01, 0).train.probe


def test_a_seed_draws_the_same_tables_for_every_method(make_config: Make) -> None:
    configs = [variant(make_config(), name, 0.01, 7) for name in NAMES]

    assert {config.train.seed for config in configs} == {7}
    assert {(c.missing.train.seed, c.missing.validation.seed, c.missing.test.seed) for c in configs} == {(7, 7, 7)}


def test_ours_is_the_configuration_and_baselines_are_plain(make_config: Make) -> None:
    config = make_config(train={"modality_dropout": 0.5, "distillation": 0.5}, mora={"parametrization": "identity"})

    ours, official, lora = (variant(config, name, 0.01, 0) for name in ("ours", "mora-official", "lora"))

    assert (ours.train.modality_dropout, ours.train.distillation) == (0.5, 0.5)
    assert (official.mora.parametrization, official.train.modality_dropout) == ("official", 0)
    assert (lora.method, lora.train.modality_dropout, lora.train.distillation) == ("lora", 0, 0)


def test_ours_auto_is_ours_with_the_choice_of_the_adapter_and_is_named_only_by_itself(make_config: Make) -> None:
    config = make_config(mora={"rank": 2, "first_layer": 2})

    ours, auto = (variant(config, name, 0.01, 0) for name in ("ours", "ours-auto"))

    assert auto.mora == ours.mora.model_copy(update={"auto": True})
    assert auto.model_copy(update={"mora": ours.mora}) == ours
    assert set(NAMES) - set(ALL) == {"ours-auto"}


def test_an_unknown_method_is_named_before_any_run(make_config: Make, tmp_path: Path, scored: list) -> None:
    with pytest.raises(ConfigError, match="prompt is unknown; choose from majority"):
        compared(make_config(), tmp_path, ["head", "prompt"])

    assert scored == []


@pytest.fixture
def strengths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None, int]]:
    """Yardsticks are not measured, but scored: the nearer C is to 1, the better. The list of all runs."""
    ran: list[tuple[str, float | None, int]] = []

    def score(name: str, strength: float | None, config: TaskConfig, *_: object) -> dict[str, Any]:
        ran.append((name, strength, config.train.seed))
        accuracy = 0.3 if strength is None else 1 - abs(np.log(strength)) / 10
        views = {view: {"accuracy": accuracy} for view in ("overall", "both", "image", "text")}
        return {"validation": views, "test": views, "trainable_parameters": None, "seconds": {"train": 0.5}}

    monkeypatch.setattr(module, "measure", score)
    return ran


@pytest.mark.parametrize(
    ("name", "tried"), [("tfidf", [9.49, 30, 94.9, 3, 0.949, 0.3]), ("hog", [9.49, 30, 94.9, 3, 0.949, 0.3])]
)
def test_the_strength_of_a_yardstick_is_searched_as_a_learning_rate_is(
    make_config: Make, tmp_path: Path, strengths: list, name: str, tried: list[float]
) -> None:
    result = compared(make_config(), tmp_path, [name], [3, 4])["methods"][name]

    chosen = min(tried, key=lambda strength: abs(np.log(strength)))
    assert strengths == [*((name, strength, 3) for strength in tried), (name, chosen, 4)]
    assert (result["learning_rate"], result["strength"], result["trainable_parameters"]) == (None, chosen, None)
    assert [float(strength) for strength in result["searched"]] == sorted(tried)


@pytest.mark.parametrize(("name", "strength"), [("majority", None), ("tfidf", 30.0), ("hog", 30.0)])
def test_without_a_search_a_yardstick_has_its_first_strength(
    make_config: Make, tmp_path: Path, strengths: list, name: str, strength: float | None
) -> None:
    result = compared(make_config(), tmp_path, [name], [0, 1], search=name == "majority")["methods"][name]

    assert strengths == [(name, strength, 0), (name, strength, 1)]
    assert (result["strength"], result["searched"]) == (strength, {})


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["lora", "hog"], ["hog", "lora"]),
        (["ours", "tfidf", "head", "majority"], ["tfidf", "majority", "ours", "head"]),
        (["majority", "hog", "full"], ["majority", "hog", "full"]),
    ],
)
def test_yardsticks_come_first(
    make_config: Make, tmp_path: Path, scored: list, strengths: list, given: list[str], order: list[str]
) -> None:
    assert list(compared(make_config(), tmp_path, given, search=False)["methods"]) == order


def test_a_comparison_without_yardsticks_goes_on_with_them(
    make_config: Make, tmp_path: Path, scored: list, strengths: list
) -> None:
    before = compared(make_config(), tmp_path, ["head", "ours"], search=False)["methods"]

    after = compared(make_config(), tmp_path, ["hog", "head", "majority", "ours"], search=False)["methods"]
    compared(make_config(), tmp_path, ["hog", "majority"], search=False)

    assert {name: after[name] for name in before} == before
    assert strengths == [("hog", 30.0, 0), ("majority", None, 0)]


@pytest.mark.parametrize("name", ["majority", "tfidf", "hog"])
def test_a_yardstick_of_another_configuration_is_an_error(
    make_config: Make, tmp_path: Path, strengths: list, name: str
) -> None:
    compared(make_config(), tmp_path, [name], search=False)

    with pytest.raises(RunError, match=r"other config.*train\.epochs"):
        compared(make_config(train={"epochs": 9}), tmp_path, [name], search=False)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_main_process_writes_the_run_of_a_yardstick(
    make_config: Make, tmp_path: Path, strengths: list, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)

    result = compared(make_config(), tmp_path, ["tfidf"], search=False)["methods"]["tfidf"]

    assert result["test"]["overall"]["accuracy"] == [pytest.approx(1 - np.log(30) / 10)]
    assert [path.name for path in tmp_path.rglob("metrics.json")] == ["metrics.json"] * (rank == "0")


@pytest.mark.slow
def test_a_finished_run_of_another_configuration_is_an_error(make_config: Make, tmp_path: Path) -> None:
    compared(make_config(train={"epochs": 1, "batch_size": 8}), tmp_path, ["head"], search=False)

    with pytest.raises(RunError, match="other config"):
        compared(make_config(train={"epochs": 2, "batch_size": 8}), tmp_path, ["head"], search=False)


def test_a_method_that_diverged_everywhere_is_last(make_config: Make, tmp_path: Path, monkeypatch) -> None:
    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        run_with(folder, None if config.train.learning_rate > 0.02 else 0.5)

    monkeypatch.setattr(kept_runs, "fit", score)

    result = compared(make_config(train={"learning_rate": 0.01}), tmp_path, ["lora"])["methods"]["lora"]

    assert result["learning_rate"] <= 0.01
    assert result["searched"]["0.0316"] is None


@pytest.mark.parametrize("too_high", [0.02, 0.005, 0.002])
def test_a_rate_at_which_training_diverges_is_announced_and_not_chosen(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_high: float
) -> None:
    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        if config.train.learning_rate > too_high:
            raise DivergedError("training diverged in epoch 1")
        run_with(folder, 0.5)

    monkeypatch.setattr(kept_runs, "fit", score)
    config, notes = make_config(train={"learning_rate": 0.01}), []

    runs = Runs(config, load_data(config), tmp_path, notes.append)
    result = compare([runs], ["lora"], [0], True)["methods"]["lora"]

    assert 0 < result["learning_rate"] <= too_high
    assert result["searched"]["0.0316"] is None
    assert "lora: training diverged in epoch 1" in notes


@pytest.mark.slow
def test_a_seed_that_diverges_ends_the_comparison(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "learning_rate": 1e20})

    with pytest.raises(DivergedError, match="epoch 1"):
        compared(config, tmp_path, ["lora"], search=False)


@pytest.mark.slow
def test_the_command_writes_table_json_and_plot_and_resumes(make_config: Make, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}).model_dump(mode="json")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))
    line = ["compare", str(tmp_path / "task.yaml"), "--methods", "head", "ours", "hog", "tfidf", "majority"]
    line += ["--seeds", "0", "1", "--search", "nothing", "--output", str(tmp_path / "out")]

    first = CliRunner().invoke(app, line)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/metrics.json")}
    second = CliRunner().invoke(app, line)

    assert first.exit_code == 0, first.output
    assert second.exit_code == 0, second.output
    assert len(times) == 10
    assert not any("damaged_inputs" in json.loads(path.read_text()) for path in times)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    result = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(result["methods"]) == ["hog", "tfidf", "majority", "head", "ours"]
    assert result["seeds"] == [0, 1]
    forms = {
        name: {view: [*scores] for view, scores in each["test"].items()} for name, each in result["methods"].items()
    }
    assert all(form == forms["ours"] for form in forms.values())
    assert len(result["methods"]["ours"]["test"]["image"]["accuracy"]) == 2
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table.startswith("`mora-train compare ")
    assert "| head | 0.01 |" in table
    assert "| hog† | C 30 | - |" in table
    assert "hog†" in first.output
    assert (tmp_path / "out" / "comparison.svg").read_text().startswith("<")
    assert not (tmp_path / "out" / "trunk_cache").exists()


@pytest.mark.slow
def test_calibration_items_change_no_comparison(
    make_config: Make,
    divisible: dict[str, str],
    other_calibration: Callable[[TaskConfig, TaskData], TaskData],
    tmp_path: Path,
) -> None:
    config = make_config(method="head", data=divisible, train={"epochs": 1, "batch_size": 8})
    data = load_data(config)

    first, other = (
        compare([Runs(config, each, tmp_path / name, lambda _: None)], ["head"], [0], search=False)["methods"]["head"]
        for name, each in {"first": data, "other": other_calibration(config, data)}.items()
    )

    assert first.pop("seconds") is not other.pop("seconds")
    assert first == other


def test_backbones_are_compared_with_the_same_methods_seeds_and_data(
    make_config: Make, tmp_path: Path, scored: list, tiny_backbone: Path
) -> None:
    other = shutil.copytree(tiny_backbone, tmp_path / "other")
    file = tmp_path / "task.yaml"
    config = make_config(train={"learning_rate": 0.003}).model_dump(mode="json", exclude_unset=True)
    file.write_text(yaml.safe_dump(config))
    command = ["compare", str(file), "--methods", "ours", "head", "majority", "--seeds", "0", "1"]
    command += ["--search", "nothing", "--output", str(tmp_path / "out")]

    result = CliRunner().invoke(app, [*command, "--backbones", str(tiny_backbone), str(other)])

    assert result.exit_code == 0, result.output
    compared = json.loads((tmp_path / "out/backbones.json").read_text())
    assert [*compared] == [str(tiny_backbone), str(other)]
    methods = [[*comparison["methods"]] for comparison in compared.values()]
    assert methods == [["majority", "ours", "head"], ["ours", "head"]], "a yardstick needs no backbone"
    assert sorted(scored) == sorted([(name, 0.003, seed) for name in ("ours", "head") for seed in (0, 1)] * 2)
    table = (tmp_path / "out/backbones.md").read_text()
    assert "+0.00 ± 0.00" in table
    assert f"| {other} | ours |" in table
    assert "<svg" in (tmp_path / "out/backbones.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "a", "--backbones", "a", "b"], "exclude each other"),
        (["--backbones", "{tiny}", "{tiny}"], "twice"),
        (["--backbones", "{tiny}", "nowhere/at-all"], "nowhere/at-all"),
    ],
)
def test_backbones_that_cannot_be_compared_are_refused(
    make_config: Make, tmp_path: Path, scored: list, tiny_backbone: Path, options: list[str], message: str
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(yaml.safe_dump(make_config().model_dump(mode="json", exclude_unset=True)))
    words = [word.format(tiny=tiny_backbone) for word in options]

    result = CliRunner().invoke(app, ["compare", str(file), "--output", str(tmp_path / "out"), *words])

    assert result.exit_code == 1
    assert message in result.output.replace("\n", "")


def test_each_partition_has_splits_of_its_own_and_the_first_is_searched(
    make_config: Make, parquet: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: dict[str, TaskData] = {}

    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        ran[folder.name] = data
        run_with(folder, config.data.seed / 10 + config.train.seed / 100)

    monkeypatch.setattr(kept_runs, "fit", score)
    config = make_config(data={"train": parquet["train"]}, train={"learning_rate": 0.003})
    (runs,) = partitions_of([Runs(config, load_data(config), tmp_path, lambda _: None)], [3, 5], load_data)

    result = compare(runs, ["lora"], [0, 1], search=True)

    assert (result["seeds"], result["partitions"]) == ([0, 1], [3, 5])
    assert result["methods"]["lora"]["test"]["overall"]["accuracy"] == [0.3, 0.31, 0.5, 0.51]
    chosen = f"lora_lr{result['methods']['lora']['learning_rate']:.3g}"
    searched = {name for name in ran if not name.startswith(f"{chosen}_")}
    assert searched
    assert all(name.endswith("_partition3_seed0") for name in searched)
    assert ran[f"{chosen}_partition3_seed0"].fingerprint != ran[f"{chosen}_partition5_seed0"].fingerprint


def test_a_partition_without_items_of_a_view_may_lack_its_scores(
    make_config: Make, parquet: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(config: TaskConfig, data: TaskData, folder: Path, *_: object, **__: object) -> None:
        run_with(folder, 0.5)
        metrics = json.loads((folder / "metrics.json").read_text())
        if config.data.seed == 5:  # as the metrics of a run of an earlier version
            del metrics["test"]["image"]["accuracy"]
        if config.data.seed == 7:
            metrics["test"]["text"]["macro_f1_calibrated"] = 0.25
        (folder / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.setattr(kept_runs, "fit", score)
    config = make_config(data={"train": parquet["train"]})
    (runs,) = partitions_of([Runs(config, load_data(config), tmp_path, lambda _: None)], [3, 5, 7], load_data)

    test = compare(runs, ["lora"], [0], search=False)["methods"]["lora"]["test"]

    assert test["image"]["accuracy"] == [0.5, None, 0.5]
    assert test["text"]["macro_f1_calibrated"] == [None, None, 0.25]


@pytest.mark.parametrize("given", ["validation", "test"])
def test_splits_of_your_own_cannot_be_partitioned(
    make_config: Make, parquet: dict[str, str], tmp_path: Path, given: str
) -> None:
    config = make_config(data={"train": parquet["train"], given: parquet[given]})

    with pytest.raises(ConfigError, match=rf"--partitions: data.{given} gives a split.*put all items into data.train"):
        partitions_of([Runs(config, load_data(config), tmp_path, lambda _: None)], [0], load_data)


def test_the_command_names_its_partitions(
    make_config: Make, parquet: dict[str, str], tmp_path: Path, scored: list
) -> None:
    config = make_config(data={"train": parquet["train"]}, train={"learning_rate": 0.003})
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    command = ["compare", str(tmp_path / "task.yaml"), "--methods", "ours", "head", "--seeds", "0", "1"]
    command += ["--partitions", "0", "2", "--search", "nothing", "--output", str(tmp_path / "out")]

    done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "--partitions 0 2" in page.splitlines()[0]
    assert "over seeds 0, 1 of partitions 0, 2." in page
    assert len(scored) == 8
