"""Paths in a configuration file start from its folder, those of flags from the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.config import TaskConfig, load_config
from training.config_paths import absolute, from_here
from training.errors import ConfigError

FIELDS = ["backbone", "data.train", "data.validation", "data.test", "missing.train.table", "missing.test.table"]


def written(folder: Path, **fields: object) -> Path:
    """shop/task.yaml with these fields, dotted names as `data__train`."""
    values: dict = {"task": "t", "problem": "single_label", "backbone": "owner/name", "data": {"train": "train.csv"}}
    for name, value in fields.items():
        *groups, field = name.split("__")
        holder = values
        for group in groups:
            holder = holder.setdefault(group, {})
        holder[field] = value
    path = folder / "shop" / "task.yaml"
    path.parent.mkdir(exist_ok=True)
    (path.parent / "train.csv").touch()
    path.write_text(yaml.safe_dump(values))
    return path


def value_of(config: TaskConfig, name: str) -> str:
    value: object = config
    for part in name.split("."):
        value = getattr(value, part)
    return str(value)


@pytest.fixture(params=["beside", "inside", "elsewhere"])
def working_directory(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds shop/, shop/ itself, or another one."""
    folder: Path = {"beside": tmp_path, "inside": tmp_path / "shop", "elsewhere": tmp_path / "a" / "b"}[request.param]
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["things/one", "./one", "../one", "things/Käse.csv"])
def test_a_path_in_the_file_starts_from_its_folder(
    tmp_path: Path, working_directory: Path, field: str, value: str
) -> None:
    file = written(tmp_path, **{field.replace(".", "__"): value})
    target = file.parent / value
    target.parent.mkdir(exist_ok=True)
    target.touch()

    config = load_config(file)

    assert Path(value_of(config, field)).samefile(target)


@pytest.mark.parametrize("field", FIELDS)
def test_a_path_that_only_the_working_directory_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").touch()
    file = written(tmp_path, **{field.replace(".", "__"): "one"})

    with pytest.raises(
        ConfigError, match=rf"shop/task\.yaml: {field}: .* write \.\./one, or give .* --{field}"
    ) as error:
        load_config(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "flags", [["--data.train", "one.csv"], ["--data.train=./one.csv"], ["--data", "{train: one.csv}"]]
)
def test_a_path_in_a_flag_starts_from_the_working_directory(
    tmp_path: Path, working_directory: Path, flags: list[str]
) -> None:
    (working_directory / "one.csv").touch()
    file = written(tmp_path, data__train="gone/of/the/file.csv")

    config = load_config(file, flags)

    assert Path(str(config.data.train)).samefile(working_directory / "one.csv")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "openai/clip-vit-base-patch16"),
        ("backbone", "gpt2"),
        ("data.train", "owner/name:train"),
        ("data.train", "name:validation"),
        ("data.test", "owner/name"),
    ],
)
def test_a_name_on_a_hub_stays(tmp_path: Path, working_directory: Path, field: str, value: str) -> None:
    assert value_of(load_config(written(tmp_path, **{field.replace(".", "__"): value})), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", "models/of/mine"),
        ("backbone", "./clip"),
        ("data.train", "gone.csv"),
        ("data.validation", "../gone"),
        ("missing.train.table", "gone.npy"),
    ],
)
def test_a_path_that_does_not_exist_is_looked_for_in_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)

    config = load_config(written(Path(), **{field.replace(".", "__"): value}))

    assert Path(value_of(config, field)) == Path("shop", value)
    assert value_of(config, field).startswith("./")


@pytest.mark.parametrize("inside", [True, False])
def test_a_run_keeps_absolute_paths_and_shows_relative_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(Path(), data__test="train.csv")
    values = load_config(file).model_dump(mode="json")

    kept = absolute(values)

    assert kept["data"]["train"] == str(tmp_path / "shop/train.csv")
    assert kept["backbone"] == "owner/name"
    if not inside:
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
    assert from_here(kept)["data"]["test"] == ("shop/train.csv" if inside else str(tmp_path / "shop/train.csv"))
