"""Tasks of a store share int8 trunks, although these depend on the items of the task that was exported first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_store import Calibration, Manifest, Pattern, Precision, Store, publish
from tests.support.sampling import each
from training.config import TaskConfig
from training.data.splits import load_data
from training.export.bundle import export_task
from training.export.known_trunks import known_int8_trunks
from training.learning.runs import TrainedTask, build

Make = Callable[..., TaskConfig]
FILES = ("image_trunk", "text_trunk", "image_tail", "text_tail")


def published(store: Store, config: TaskConfig, seed: int = 0, knows: bool = True) -> Manifest:
    """A version of a task whose trained parameters have random values, with int8 whatever it costs."""
    export = config.export.model_copy(update={"precisions": ("int8",), "accuracy_budget": 100.0})
    config, data = config.model_copy(update={"export": export}), load_data(config)
    torch.manual_seed(0)
    model, preprocessor = build(config, len(data.labels))
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            value += 0.05 * torch.randn(value.shape)
    mix, calibration = dict.fromkeys(Pattern, 1 / 3), dict.fromkeys(Pattern, Calibration())
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, calibration, model.eval(), preprocessor)
    bundle = export_task(trained, {"validation": {}, "test": {}}, data, None, store=store if knows else None)
    return publish(store, bundle.draft, bundle.blobs)


def int8(manifest: Manifest) -> dict[str, str]:
    """The digests of the graphs."""
    assert manifest.graphs[Precision.INT8].fixed_scales
    blobs = manifest.graphs[Precision.INT8].blobs()
    return {name: blobs[name].sha256 for name in FILES}


@pytest.fixture(scope="module")
def made(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A store with a version, and its manifest."""
    root = tmp_path_factory.mktemp("made") / "store"
    return root, published(Store(root), make_config())


@pytest.fixture
def store(made: tuple[Path, Manifest], tmp_path: Path) -> Store:
    """A copy of it, of the test's own."""
    return Store(Path(shutil.copytree(made[0], tmp_path / "store")))


@pytest.fixture
def first(made: tuple[Path, Manifest]) -> Manifest:
    return made[1]


@pytest.fixture
def other_items(make_config: Make) -> TaskConfig:
    """Another task, which sees one picture and its text."""
    config = make_config(task="other")
    train = dict(config.data.model_dump(), train=config.data.test)
    return config.model_copy(update={"data": type(config.data).model_validate(train)})


@pytest.mark.parametrize("seed", each([1, 2, 3], tried=[1]))
@pytest.mark.slow
def test_a_second_task_takes_the_trunks_of_the_first(store, first, other_items, seed) -> None:
    own = published(Store(store.root.with_name("empty")), other_items, seed)
    second = published(store, other_items, seed)

    assert [int8(second)[name] == int8(first)[name] for name in FILES] == [True, True, False, False]
    assert int8(own)["image_trunk"] != int8(first)["image_trunk"]  # the ranges depend on the items


@pytest.mark.parametrize("change", ["no store", "damaged", "fp32 only"])
@pytest.mark.slow
def test_a_task_has_trunks_of_its_own_where_it_finds_none(store, first, other_items, change) -> None:
    if change == "damaged":
        (store.root / "tasks" / first.task / str(first.version) / "manifest.json").write_text("{}")
    if change == "fp32 only":
        store = Store(store.root.with_name("fp32 only"))
    second = published(store, other_items, knows=change != "no store")

    assert int8(second)["image_trunk"] != int8(first)["image_trunk"]


@pytest.mark.slow
def test_the_trunks_of_the_task_itself_come_first(store, first, other_items) -> None:
    second = published(store, other_items, knows=False)
    blobs = second.graphs[Precision.FP32].blobs()
    fp32 = {name: store.read(blobs[name]) for name in FILES}

    for manifest in (first, second):
        trunk = manifest.graphs[Precision.INT8].image_trunk
        assert known_int8_trunks(store, manifest.task, fp32)["image_trunk"] == store.read(trunk)


@pytest.mark.parametrize("name", ["image_trunk", "text_trunk"])
def test_a_trunk_of_another_backbone_is_not_taken(store, first, name) -> None:
    blobs = first.graphs[Precision.FP32].blobs()
    fp32 = {file: store.read(blobs[file]) for file in FILES}

    found = known_int8_trunks(store, "other", fp32 | {name: b"another"})

    assert set(found) == {"image_trunk", "text_trunk"} - {name}
