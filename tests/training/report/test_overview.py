"""`mora-train data`: counts of the data, and examples as the model sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.examples import Example
from training.data.missing import Lacks, table_for
from training.data.splits import Split, TaskData, load_data
from training.model.input_preview import open_preview
from training.report.overview import contact_sheet, print_overview

Make = Callable[..., TaskConfig]
SPLITS = ("train", "validation", "test")


def printed(config: TaskConfig, data: TaskData) -> str:
    tables = {
        name: table_for(split, config.task, getattr(config.missing, name)) for name, split in data.splits().items()
    }
    console = Console(file=StringIO(), width=120)
    print_overview(config, data, tables, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def cells(output: str, start: str) -> list[str]:
    """The numbers of the first line that begins with `start`."""
    (line, *_) = [line for line in output.splitlines() if line.strip("\u2502 ").startswith(start)]
    return [cell.strip() for cell in line.strip("\u2502 ").removeprefix(start).split("\u2502") if cell.strip()]


@pytest.mark.parametrize(
    ("repeated", "shown"),
    [
        ({"image": "photo", "text": "a"}, ["train and test", "1", "3", "row 1 of train, row 4 of test and 1 more"]),
        ({"image": None, "text": "[thanks]"}, ["train and test", "1", "3", "row 1 of train, row 4 of test and 1 more"]),
    ],
)
def test_items_that_repeat_are_counted_and_named(
    make_config: Make, png: Callable[..., bytes], repeated: dict[str, str | None], shown: list[str]
) -> None:
    def item(row: int, picture: str | None, text: str | None) -> Example:
        return Example(row, picture and png(row), text, ("red",), picture=picture and picture.encode())

    copies = {row: item(row, repeated["image"], repeated["text"]) for row in (1, 2, 4)}
    own = {row: item(row, f"own {row}", "as new") for row in (3, 5, 6)}
    items = {"train": [copies[1], copies[2], own[3]], "validation": [own[6]], "test": [copies[4], own[5]]}
    data = TaskData(("red", "blue"), *(Split(name, "made", items[name]) for name in SPLITS))

    output = printed(make_config(missing={}), data)

    kind = "same item"
    lines = [cells(line, kind) for line in output.splitlines() if line.strip("\u2502 ").startswith(kind)]
    assert lines[0][:3] == ["train", "1", "2"]
    assert lines[1] == shown


def test_data_without_repeats_has_no_table_of_them(make_config: Make) -> None:
    splits = [Split(name, "made", [Example(1, None, f"only in {name}", ("red",))]) for name in SPLITS]

    assert "that repeat" not in printed(make_config(missing={}), TaskData(("red", "blue"), *splits))


def test_counts_by_pattern_are_natural_and_under_the_missing_table(make_config: Make) -> None:
    config = make_config()  # 24 rows of train: 3 without image, 3 without text; a missing table for a half

    output = printed(config, load_data(config))

    assert cells(output, "train") == ["in the data", "24", "18", "3", "3"]
    assert cells(output, "validation") == ["in the data", "9", "7", "1", "1"]
    under = [line for line in output.splitlines() if "after `missing`" in line]
    assert cells(under[0], "after `missing`") == ["24", "12", "6", "6"]


def test_labels_are_counted_most_frequent_first_and_thirty_are_listed(make_config: Make) -> None:
    labels = tuple(f"label {n:02}" for n in range(33))
    items = [Example(n, b"", "t", (labels[n % 33],)) for n in range(1, 100)] + [Example(100, b"", "t", ("label 07",))]
    split = Split("train", "made", items)
    data = TaskData(
        labels, split, Split("validation", "made", items[:1]), Split("test", "made", [Example(1, b"", "t", ())])
    )

    output = printed(make_config(missing={}), data)

    assert cells(output, "label 07") == ["4", "0", "0"]
    assert output.index("label 07") < output.index("label 00")
    assert "label 28" in output
    assert "label 30" not in output
    assert cells(output, "and 3 more") == ["9", "0", "0"]
    assert cells(output, "(no label)") == ["0", "0", "1"]


def test_a_label_in_brackets_is_not_read_as_markup(make_config: Make) -> None:
    split = Split("train", "made", [Example(1, b"", "t", ("[red]",)), Example(2, b"", "t", ("[/]",))])

    output = printed(make_config(missing={}), TaskData(("[red]", "[/]"), split, split, split, ("a [note]",)))

    assert "[red]" in output
    assert "[/]" in output
    assert "note: a [note]" in output


def test_the_sheet_shows_the_pixels_and_tokens_that_the_table_leaves(
    make_config: Make, tiny_backbone: Path, png: Callable[..., bytes]
) -> None:
    preview = open_preview(str(tiny_backbone))
    items = [Example(row, png(1), "red " * 50, ("red",)) for row in (1, 2, 3)]
    split = Split("train", "made", items)
    table = np.array([Lacks.NOTHING, Lacks.IMAGE, Lacks.TEXT], dtype=np.int8)

    sheet = contact_sheet(TaskData(("red", "blue"), split, split, split), table, preview)

    size = preview.picture(None).width
    cell_width = (sheet.width - 8) // 6
    pictures = [
        np.asarray(sheet.crop((column * cell_width + 8, 8, column * cell_width + 8 + size, 8 + size)))
        for column in range(3)
    ]
    seen = np.asarray(preview.picture(png(1)))
    assert (pictures[0] == seen).all()
    assert (pictures[1] == 255).all()
    assert (pictures[2] == seen).all()
    texts = [np.asarray(sheet.crop((p * cell_width, 8 + size, (p + 1) * cell_width, 90 + size))) for p in range(3)]
    assert (texts[0] == texts[1]).all()
    assert (texts[0] != texts[2]).any()


@pytest.fixture
def config_file(make_config: Make, tmp_path: Path) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(json.loads(make_config().model_dump_json())))
    return path


def test_the_command_prints_counts_and_writes_a_png(config_file: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"

    result = CliRunner().invoke(app, ["data", str(config_file), "--output", str(sheet)])

    assert result.exit_code == 0, result.output
    assert cells(result.output, "train") == ["in the data", "24", "18", "3", "3"]
    assert cells(result.output, "red") == ["8", "3", "4"]
    assert str(sheet) in result.output
    with Image.open(sheet) as image:
        assert image.format == "PNG"


def test_without_output_nothing_is_written(config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["data", str(config_file), "--missing.train.ratio", "0"])

    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == [config_file.name]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--missing.train.ratio", "1.2"], "missing.train.ratio"),
        (["--missing.train.table", "gone.pt"], "gone.pt does not exist"),
        (["--data.train", "gone.csv"], "there is no gone.csv"),
        (["--labels", "[red, green]"], "label 'blue' is not among the 2 labels"),
        (["--output", "/nowhere/sheet.png"], "/nowhere/sheet.png"),
    ],
)
def test_a_fault_is_one_line_that_names_it(config_file: Path, flags: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["data", str(config_file), *flags])

    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_masks_of_the_authors_are_mentioned_but_not_used(
    make_config: Make, tmp_path: Path, png: Callable[..., bytes]
) -> None:
    (tmp_path / "missing_tables").mkdir()
    (tmp_path / "missing_tables" / "food101_splittrain_missing_both_0.7.pt").write_bytes(b"")
    config = make_config(data={"format": "arrow", "root": str(tmp_path)}, missing={})
    split = Split("train", "made", [Example(1, png(1), "t", ("a",)), Example(2, png(1), "t", ("b",))])

    output = printed(config, TaskData(("a", "b"), split, split, split))

    assert (
        "missing_tables: food101_splittrain_missing_both_0.7.pt; to use one, name its path as missing.train" in output
    )
    assert cells(output, "train") == ["2", "2", "0", "0"]
