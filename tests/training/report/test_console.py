"""Tables on the terminal: missing scores, methods in words, the parts of an import."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from training.config import ImportedConfig, TaskConfig
from training.data.splits import load_data
from training.model.import_plan import ImportPlan
from training.report.console import print_import_plan, print_metrics, print_shown

Make = Callable[..., TaskConfig]


def printed(write: Callable[[Console], None]) -> str:
    console = Console(file=StringIO(), width=160)
    write(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_score_that_is_undefined_is_a_dash() -> None:
    test = {"overall": {"items": 3, "accuracy": 0.5}, "image": {"items": 0, "accuracy": None}}

    text = printed(lambda console: print_metrics(console, {"test": test}))

    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in text.splitlines() if "\u2502" in line]
    assert rows == [["overall", "3", "0.5000"], ["image", "0", "-"]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mora": {"without": "gram"}}, "mora (identity without gram), rank 4, scale 0.01, on q_proj, v_proj"),
        ({"method": "dora"}, "dora, rank 4, on q_proj, v_proj"),
        ({"method": "head"}, "head"),
    ],
)
def test_the_method_is_described(make_config: Make, fields: dict, says: str) -> None:
    text = printed(lambda console: print_shown(console, make_config(**fields), 3))

    assert any(line.split("method")[-1].strip() == says for line in text.splitlines() if "method" in line)
    assert "image layers" in text


@pytest.mark.parametrize("head", [None, {"head.weight": torch.zeros(3, 48), "head.bias": torch.zeros(3)}])
def test_an_import_names_the_shared_layers_and_the_origin_of_the_head(make_config: Make, head: dict | None) -> None:
    config = make_config()
    imported = ImportedConfig(kind="peft", sha256="", head="taken", first_image_layer=2, first_text_layer=0)
    plan = ImportPlan(config, imported, {"a": torch.zeros(1)}, 9, (4, 3), head, ())

    text = printed(lambda console: print_import_plan(console, plan, Path("my-lora"), load_data(config)))

    assert "my-lora (PEFT adapter)" in text
    assert "1 of its 9 tensors" in text
    assert "of 4 layers; layers below 2 are the backbone's" in text
    assert "of 3 layers; shared with no other" in text
    assert ("taken as it is" in text) is (head is not None)
    assert ("fitted on 24 items, the towers" in text) is (head is None)
