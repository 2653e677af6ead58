"""A small task on disk, and its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import training.pipeline.fit
from training.config import TaskConfig
from training.data.calibration_split import learning_split
from training.data.splits import TaskData


@pytest.fixture(autouse=True)
def _without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports measure no bf16, which only some processors compute; its tests ask for it."""
    monkeypatch.setattr("model_store.openvino.has_openvino", lambda: False)


@pytest.fixture(autouse=True)
def probe_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The linear probe tries few penalties and one balance: its search takes most of the time of a small training."""
    monkeypatch.setattr("training.learning.probe.BALANCES", (1.0,))
    monkeypatch.setattr("training.learning.probe.PENALTIES", (10.0, 1.0, 0.1))


@pytest.fixture(autouse=True)
def damage(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Trainings are not scored on damaged inputs, which takes as long as they do; `damage()` lets them be scored."""
    scored = training.pipeline.fit.damaged_scores
    none: dict[str, Any] = {"items": 0, "undamaged": {}, "damaged": {}}
    monkeypatch.setattr("training.pipeline.fit.damaged_scores", lambda *_: none)
    return lambda: monkeypatch.setattr("training.pipeline.fit.damaged_scores", scored)


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots without content."""
    monkeypatch.setattr("training.report.plots.Figure", _Undrawn)


class _Axes:
    """Takes any call, and answers with itself."""

    def __getattr__(self, name: str) -> _Axes:
        if name.startswith("__"):  # what NumPy asks of anything
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> _Axes:
        return self

    def __getitem__(self, _: int) -> _Axes:
        return self


class _Undrawn(_Axes):
    """A figure whose axes draw nothing."""

    def __init__(self, **_: object) -> None:
        pass

    def subplots(self, rows: int = 1, columns: int = 1, **_: object) -> Any:
        axes = np.full(rows * columns, _Axes(), dtype=object)
        return axes if len(axes) > 1 else axes[0]

    def savefig(self, file: StringIO, **_: object) -> None:
        file.write('<svg id="plot"></svg>')


@pytest.fixture(scope="session")
def parquet(tmp_path_factory: pytest.TempPathFactory, parquet_of: Callable[..., dict[str, str]]) -> dict[str, str]:
    """Paths of the made task's splits."""
    return parquet_of(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def divisible(tmp_path_factory: pytest.TempPathFactory, parquet_of: Callable[..., dict[str, str]]) -> dict[str, str]:
    """`make_config(data=divisible)`: the made task with 120 validation items, of which half calibrate label sets."""
    return {**parquet_of(tmp_path_factory.mktemp("divisible"), validation=(1000, 120)), "label": "label"}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, png: Callable[..., bytes]) -> dict[str, str]:
    """Paths of the splits of a made retrieval task. A query has the picture of its target, turned, and its number.

    Some cells are empty on either side, and two queries of each split have the same target.
    """
    folder, paths = tmp_path_factory.mktemp("pairs"), {}
    for split, (start, count) in {"train": (0, 24), "validation": (100, 12), "test": (200, 12)}.items():
        rows = [
            {
                "image": None if i % 6 == 1 else png(start + i, (30, 40)),
                "text": None if i % 6 == 2 else f"number {start + i}",
                "target_image": None if i % 6 == 3 else png(start + max(i, 1)),
                "target_text": None if i % 6 == 4 else f"a thing, {start + max(i, 1)}",
            }
            for i in range(count)
        ]
        paths[split] = str(folder / f"{split}.parquet")
        pq.write_table(pa.Table.from_pylist(rows), paths[split])
    return paths


@pytest.fixture(scope="session")
def retrieval_config(make_config: Callable[..., TaskConfig], pairs: dict[str, str]) -> Callable[..., TaskConfig]:
    """`retrieval_config(**fields)`: as `make_config`, of the made retrieval task."""

    def make(**fields: Any) -> TaskConfig:
        return make_config(**{"task": "things", "problem": "retrieval", "data": pairs, **fields})

    return make


@pytest.fixture
def other_calibration() -> Callable[[TaskConfig, TaskData], TaskData]:
    """The data with exchanged texts of the validation items that are set apart. No new text: lengths move rounding."""

    def change(config: TaskConfig, data: TaskData) -> TaskData:
        learning = {item.row for item in learning_split(config, data.validation).items}
        apart = [item for item in data.validation.items if item.row not in learning and item.text is not None]
        assert len(apart) > 10
        text_of = {item.row: other.text for item, other in zip(apart, apart[1:] + apart[:1], strict=True)}
        items = [replace(item, text=text_of.get(item.row, item.text)) for item in data.validation.items]
        return replace(data, validation=replace(data.validation, items=items))

    return change


@pytest.fixture(scope="session")
def make_config(tiny_backbone: Path, parquet: dict[str, str]) -> Callable[..., TaskConfig]:
    """`make_config(**fields)`: a configuration of the made task, without the probe and early stopping by default."""

    def make(**fields: Any) -> TaskConfig:
        train = fields.pop("train", {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2})
        data = {**parquet, "label": "labels" if fields.get("problem") == "multi_label" else "label"}
        missing = {"type": "both", "ratio": 0.5}
        values = {
            "task": "colors",
            "problem": "single_label",
            "backbone": str(tiny_backbone),
            "data": data,
            "missing": {"train": missing, "validation": missing, "test": missing},
            "train": {"probe": False, "patience": None, **train},
            **fields,
        }
        return TaskConfig.model_validate(values)

    return make
