"""Run folders: the rules for opening, finishing, cleaning up and discarding them, and the newest checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import TaskConfig
from training.data.row_digests import row_digests
from training.data.splits import Split, load_data
from training.errors import RunError
from training.learning import run_folder
from training.learning.run_folder import (
    CHECKPOINTS,
    clean_up,
    discard,
    is_finished,
    last_checkpoint,
    open_run,
    read_json,
    read_report,
)

Make = Callable[..., TaskConfig]


def test_a_run_folder_of_another_configuration_or_other_data_is_not_reused(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    data = load_data(config)
    run = tmp_path / "run"
    open_run(run, config, data)
    open_run(run, config, data)
    open_run(
        run, make_config(export={"precisions": [], "accuracy_budget": 2}), data
    )  # `export` has no effect on training

    with pytest.raises(RunError, match=r"other config \(mora\.rank was \d+, now 2\)"):
        open_run(run, make_config(mora={"rank": 2}), data)
    fewer = dataclasses.replace(data, train=Split("train", "made", data.train.items[1:]))
    with pytest.raises(RunError, match="other data: row 1 of made is gone"):
        open_run(run, config, fewer)
    (run / "data_rows.json").unlink()
    with pytest.raises(RunError, match="other data: which row is not known"):
        open_run(run, config, fewer)


@pytest.mark.parametrize(
    ("train", "absent"),
    [
        ({"probe": False, "patience": None}, {"probe", "patience"}),
        ({"probe": False, "patience": 0.5}, {"probe"}),
        ({"probe": True, "patience": None}, {"patience"}),
        ({"probe": True, "patience": 0.5}, set()),
    ],
)
def test_fields_without_effect_are_left_out_as_in_runs_of_earlier_versions(
    make_config: Make, tmp_path: Path, train: dict[str, object], absent: set[str]
) -> None:
    config = make_config(train=train)

    open_run(tmp_path / "run", config, load_data(config))

    start = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"probe", "patience"} - start["config"]["train"].keys() == absent


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_a_run_of_an_earlier_version_goes_on_with_its_data(make_config: Make, tmp_path: Path, name: str) -> None:
    """Its configuration has no `publish`, and its fingerprint counts image files by name and size."""
    config, run = make_config(publish={"examples": False}), tmp_path / "run"
    data = load_data(config)
    open_run(run, config, data)
    start = json.loads((run / "config.json").read_text())
    assert "publish" not in start["config"]
    old = "".join(split.old_fingerprint for split in data.splits().values())
    start["data"] = hashlib.sha256(old.encode()).hexdigest()
    (run / "config.json").write_text(json.dumps(start))

    open_run(run, config, data)
    open_run(run, make_config(publish={"report": False}), data)

    split = data.splits()[name]
    fewer = dataclasses.replace(data, **{name: Split(name, "made", split.items[1:])})
    with pytest.raises(RunError, match="other data: row 1 of made is gone"):
        open_run(run, config, fewer)
    (run / "data_rows.json").unlink()
    with pytest.raises(RunError, match="other data: which row is not known"):
        open_run(run, config, fewer)


def test_only_a_run_is_overwritten(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(RunError, match="not a run"):
        discard(tmp_path)
    with pytest.raises(RunError, match="holds files, but no run"):
        open_run(tmp_path, config, load_data(config))

    assert (tmp_path / "thesis.txt").exists()
    open_run(tmp_path / "run", config, load_data(config))
    discard(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("is_overwritten", [False, True])
def test_a_run_that_was_killed_while_it_was_opened_can_be_opened(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_overwritten: bool
) -> None:
    config, run, write, written = make_config(), tmp_path / "run", run_folder.write_json, []
    data = load_data(config)

    def killed(path: Path, value: object) -> None:
        if len(written) == number:
            (path.parent / f".{path.name}.0.unfinished").write_text("{")
            raise KeyboardInterrupt
        written.append(path)
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            open_run(run, config, data)

    if is_overwritten:
        discard(run)
    open_run(run, config, data)

    assert read_json(run / "data_rows.json") == row_digests(data)
    with pytest.raises(RunError, match=r"mora\.rank"):
        open_run(run, make_config(mora={"rank": 2}), data)


def test_a_run_that_was_killed_while_it_was_discarded_is_gone(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = make_config(), tmp_path / "run"
    data = load_data(config)
    open_run(run, config, data)

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            (folder / "config.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(run)

    assert not run.exists()
    discard(run)
    assert [*tmp_path.iterdir()] == []
    open_run(run, config, data)


def test_a_truncated_checkpoint_is_removed_and_the_one_before_it_is_used(tmp_path: Path) -> None:
    for step, state in ((3, "{}"), (10, '{"epo')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
            (folder / name).write_bytes(b"")
        (folder / "trainer_state.json").write_text(state)

    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")
    assert not (tmp_path / "checkpoint-10").exists()


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    for content in (json.dumps({})[:1], "[]"):
        (tmp_path / "metrics.json").write_text(content)
        with pytest.raises(RunError, match=r"metrics\.json cannot be read .* --overwrite"):
            read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize("description", ["task.json", "adapter_config.json"])
def test_a_run_is_finished_once_it_has_metrics_under_both_names_of_its_description(
    tmp_path: Path, description: str
) -> None:
    (tmp_path / description).write_text("{}")
    assert not is_finished(tmp_path)

    (tmp_path / "metrics.json").write_text("{}")

    assert is_finished(tmp_path)


def test_cleaning_up_leaves_the_results(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "metrics.json").write_text("{}")

    clean_up(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_missing_report_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report\.html cannot be read .*--overwrite"):
        read_report(tmp_path)


def test_a_run_from_before_class_weights_is_one_without_them(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    data = load_data(config)
    open_run(tmp_path, config, data)

    assert "class_weights" not in read_json(tmp_path / "config.json")["config"]["train"]
    open_run(tmp_path, make_config(train={**config.train.model_dump(), "class_weights": "none"}), data)
    with pytest.raises(RunError, match=r"train\.class_weights was None, now balanced"):
        open_run(tmp_path, make_config(train={**config.train.model_dump(), "class_weights": "balanced"}), data)


@pytest.mark.parametrize(
    ("coverage", "difference"),
    [
        ({"share": 0}, None),
        ({}, r"coverage\.share was 0\.0, now 0\.5\)"),
        ({"share": 0.25}, r"coverage\.share was 0\.0, now 0\.25\)"),
        ({"share": 0, "by": "class"}, r"coverage\.by was pattern, now class\)"),
    ],
)
def test_a_run_from_before_label_sets_set_no_items_apart(
    make_config: Make, tmp_path: Path, coverage: dict[str, object], difference: str | None
) -> None:
    config, run = make_config(coverage=coverage), tmp_path / "run"
    data = load_data(config)
    open_run(run, config, data)
    start = json.loads((run / "config.json").read_text())
    del start["config"]["coverage"]
    (run / "config.json").write_text(json.dumps(start))

    if difference is None:
        open_run(run, config, data)
        return
    with pytest.raises(RunError, match=difference):
        open_run(run, config, data)
