"""Training on cached trunk outputs: the same logits as without a cache, and a file for each set of inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.config import TaskConfig
from training.data.missing import draw_tables
from training.data.splits import TaskData, load_data
from training.errors import DataError
from training.learning import trunk_outputs as trunk_cache
from training.learning.batches import Collator, MaskedExamples, RawInputs
from training.learning.run_folder import read_json
from training.learning.runs import build
from training.learning.trunk_outputs import TrunkOutputs, needed_bytes, open_or_build
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def parts(config: TaskConfig) -> tuple[MissingModalityClassifier, Preprocessor, TaskData]:
    torch.manual_seed(0)
    data = load_data(config)
    return *build(config, len(data.labels)), data


def opened(config: TaskConfig, folder: Path) -> TrunkOutputs:
    cache = open_or_build(*parts(config), folder, print)
    assert cache is not None
    return cache


@pytest.mark.parametrize("backbone", ["tiny_backbone", "tiny_siglip"])
def test_logits_equal_those_without_a_cache(
    make_config: Make, tmp_path: Path, backbone: str, request: pytest.FixtureRequest
) -> None:
    config = make_config(backbone=str(request.getfixturevalue(backbone)))
    model, preprocessor, data = parts(config)
    items = MaskedExamples(data.train, draw_tables(config, data)["train"])
    batch = [items[number] for number in range(len(items))]

    raw, cached = (
        Collator(inputs, data.labels, config.problem)(batch)
        for inputs in (RawInputs(preprocessor), opened(config, tmp_path))
    )

    model.eval()
    torch.testing.assert_close(model(**cached)["logits"], model(**raw)["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model(**cached)["loss"], model(**raw)["loss"], rtol=0, atol=1e-5)


def test_a_picture_that_cannot_be_resized_is_named_by_its_row(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    model, preprocessor, data = parts(make_config())
    items = [dataclasses.replace(data.train.items[0], image=png(1, (1, 60_000))), *data.train.items[1:]]
    elongated = dataclasses.replace(data, train=dataclasses.replace(data.train, items=items))

    with pytest.raises(DataError, match=r"row 1: an image has more than 50,000,000 pixels"):
        open_or_build(model, preprocessor, elongated, tmp_path, print)


@pytest.mark.slow
def test_training_ends_at_the_same_weights(make_config: Make, tmp_path: Path) -> None:
    train = {"epochs": 2, "batch_size": 8}
    states = []
    for name, cached in (("with", True), ("without", False)):
        config = make_config(train={**train, "cache_trunk": cached})
        states.append(fit(config, load_data(config), tmp_path / name).model.state_dict())
        assert not (tmp_path / name / "trunk_cache").exists()

    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-4)


def test_the_needed_disk_space_is_announced(make_config: Make, tmp_path: Path) -> None:
    said: list[str] = []
    model, preprocessor, data = parts(make_config())

    open_or_build(model, preprocessor, data, tmp_path, said.append)

    written = sum(path.stat().st_size for path in tmp_path.glob("*.f32"))
    assert needed_bytes(model, preprocessor, data) == written
    assert f"{written / 1e9:.2f} GB" in said[0]


def test_a_full_disk_gets_no_cache(make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    usage = dataclasses.make_dataclass("Usage", [("free", int)])
    monkeypatch.setattr(trunk_cache.shutil, "disk_usage", lambda _: usage(free=1000))

    assert open_or_build(*parts(make_config()), tmp_path, said.append) is None

    assert "without a cache" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_reads_the_cache_of_the_first(make_config: Make, tmp_path: Path) -> None:
    opened(make_config(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    opened(make_config(mora={"rank": 2}, train={"seed": 1, "epochs": 1, "batch_size": 4}), tmp_path)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_layers_and_other_inputs_have_their_own_files(make_config: Make, tmp_path: Path) -> None:
    opened(make_config(), tmp_path)
    first = set(tmp_path.iterdir())

    opened(make_config(mora={"first_layer": 2}), tmp_path)
    second = set(tmp_path.iterdir())
    model, preprocessor, data = parts(make_config())
    fewer = dataclasses.replace(data, test=dataclasses.replace(data.test, items=data.test.items[:-1]))
    open_or_build(model, preprocessor, fewer, tmp_path, print)

    assert len(second) == 2 * len(first)
    assert set(tmp_path.iterdir()) > second


def test_a_cache_that_was_cut_short_is_made_again(make_config: Make, tmp_path: Path) -> None:
    opened(make_config(), tmp_path)
    (index,) = tmp_path.glob("image-*.starts.npy")
    index.unlink()
    tokens = index.with_name(index.name.replace(".starts.npy", ".f32"))
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:100])

    opened(make_config(), tmp_path)

    assert tokens.read_bytes() == whole


def test_a_cache_that_was_removed_in_part_is_made_again(make_config: Make, tmp_path: Path) -> None:
    opened(make_config(), tmp_path)
    (path,) = tmp_path.glob("image-*.f32")
    whole = path.read_bytes()
    path.unlink()

    opened(make_config(), tmp_path)

    assert path.read_bytes() == whole


def test_full_fine_tuning_is_never_cached(make_config: Make, tmp_path: Path) -> None:
    config = make_config(method="full")

    fit(config, load_data(config), tmp_path / "run", cache_folder=tmp_path / "cache")

    assert not (tmp_path / "cache").exists()
    assert read_json(tmp_path / "run" / "metrics.json")["trainable_parameters"] > 50_000


@pytest.mark.parametrize("missing", ["*", "image-*", "text-*.starts.npy"])
def test_only_one_process_of_a_training_writes_the_cache(make_config: Make, tmp_path: Path, missing: str) -> None:
    """The others read it once it is complete, and train without it if there is none."""
    model, preprocessor, data = parts(make_config())
    said: list[str] = []

    def of_another_process() -> TrunkOutputs | None:
        return open_or_build(model, preprocessor, data, tmp_path, said.append, may_build=False)

    opened(make_config(), tmp_path)
    assert of_another_process() is not None
    for path in tmp_path.glob(missing):
        path.unlink()
    left = sorted(tmp_path.iterdir())

    assert of_another_process() is None
    assert sorted(tmp_path.iterdir()) == left
    assert said == []


@pytest.mark.parametrize("moved", [1, 5, 9])
def test_other_divisions_of_the_same_items_share_the_files(make_config: Make, tmp_path: Path, moved: int) -> None:
    """As the folds of a cross-validation are."""
    model, preprocessor, data = parts(make_config())
    train, test = data.train.items, data.test.items
    other = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, items=[*test[:moved], *train[moved:]]),
        test=dataclasses.replace(data.test, items=[*test[moved:], *train[:moved]]),
    )

    first = open_or_build(model, preprocessor, data, tmp_path, print)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = open_or_build(model, preprocessor, other, tmp_path, print)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert first is not None
    assert second is not None
    for name, value in first.images(train).items():
        torch.testing.assert_close(second.images(train)[name], value)
