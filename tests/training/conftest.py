"""A small task on disk, and its configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.config import TaskConfig

COLORS = ["red", "green", "blue"]


@pytest.fixture(scope="session")
def parquet(tmp_path_factory: pytest.TempPathFactory, png: Callable[..., bytes]) -> dict[str, str]:
    """Splits of a made task: pictures of noise named by a colour; some cells are empty."""
    folder = tmp_path_factory.mktemp("data")
    paths = {}
    for split, (start, count) in {"train": (0, 24), "validation": (100, 9), "test": (200, 12)}.items():
        rows = [
            {
                "image": None if i % 7 == 3 else png(start + i),
                "text": ("" if i % 2 else None) if i % 7 == 5 else f"a {COLORS[i % 3]} picture {i}",
                "label": COLORS[i % 3],
                "labels": [COLORS[i % 3], COLORS[(i + 1) % 3]] if i % 4 else [],
            }
            for i in range(count)
        ]
        paths[split] = str(folder / f"{split}.parquet")
        pq.write_table(pa.Table.from_pylist(rows), paths[split])
    return paths


@pytest.fixture
def make_config(tiny_backbone: Path, parquet: dict[str, str]) -> Callable[..., TaskConfig]:
    """`make_config(**fields)`: a configuration of the made task."""

    def make(**fields: Any) -> TaskConfig:
        data = {**parquet, "label": "labels" if fields.get("problem") == "multi_label" else "label"}
        missing = {"type": "both", "ratio": 0.5}
        values = {
            "task": "colors",
            "problem": "single_label",
            "backbone": str(tiny_backbone),
            "data": data,
            "missing": {"train": missing, "validation": missing, "test": missing},
            "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2},
            **fields,
        }
        return TaskConfig.model_validate(values)

    return make
