"""Missing tables follow METHOD's protocol.

Covers training.data.mask_files.
"""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store import Pattern
from training.config import MissingConfig
from training.data.examples import Example
from training.data.missing import Lacks, draw_table, pattern_shares, table_for
from training.data.splits import Split
from training.errors import DataError, RunError

naturals = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=80).map(lambda v: np.array(v, dtype=np.int8))


@given(natural=naturals, kind=st.sampled_from(["text", "image", "both"]), ratio=st.floats(0, 1), seed=st.integers(0, 9))
@settings(deadline=None)
def test_only_complete_items_lose_and_only_as_many_as_the_ratio_asks(
    natural: np.ndarray, kind: str, ratio: float, seed: int
) -> None:
    table = draw_table(natural, MissingConfig(type=kind, ratio=ratio, seed=seed))

    incomplete = int((natural != Lacks.NOTHING).sum())
    assert (table[natural != Lacks.NOTHING] == natural[natural != Lacks.NOTHING]).all()
    assert int((table != Lacks.NOTHING).sum()) == max(int(len(natural) * ratio), incomplete)
    drawn = table[(natural == Lacks.NOTHING) & (table != Lacks.NOTHING)]
    if kind == "both":
        assert int((drawn == Lacks.IMAGE).sum()) == int(len(drawn) * 0.5)
    else:
        assert (drawn == (Lacks.IMAGE if kind == "image" else Lacks.TEXT)).all()


def test_both_ratio_shifts_the_loss_towards_images() -> None:
    table = draw_table(np.zeros(100, dtype=np.int8), MissingConfig(type="both", ratio=0.8, both_ratio=0.25))

    assert pattern_shares(table) == {Pattern.BOTH: 0.2, Pattern.IMAGE: 0.6, Pattern.TEXT: 0.2}


def test_a_table_depends_on_its_seed_alone() -> None:
    natural = np.zeros(50, dtype=np.int8)

    tables = [draw_table(natural, MissingConfig(ratio=0.5, seed=seed)) for seed in (0, 0, 1)]

    assert (tables[0] == tables[1]).all()
    assert (tables[0] != tables[2]).any()


def test_the_file_name_of_a_saved_table_holds_all_its_settings(tmp_path: Path) -> None:
    split = Split("train", "made", [Example(i, b"x", "a text", ("a",)) for i in range(10)])

    table = table_for(split, "colors", MissingConfig(type="both", ratio=0.7, seed=3), tmp_path)

    saved = tmp_path / "colors_train_missing_both_ratio0.7_both0.5_seed3.npy"
    assert (np.load(saved, allow_pickle=False) == table).all()


def movies(plots: list[list[str | None]], without_image: frozenset[int] = frozenset()) -> Split:
    """One item for each plot of a movie; None is a plot that is naturally missing."""
    items = [
        Example(0, None if group in without_image else b"x", plot, ("a",), group)
        for group, texts in enumerate(plots)
        for plot in texts
    ]
    return Split("train", "made", [replace(item, row=row) for row, item in enumerate(items, start=1)])


@given(
    plots=st.lists(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=4), min_size=1, max_size=20),
    config=st.builds(MissingConfig, ratio=st.floats(0, 1), seed=st.integers(0, 9)),
)
@settings(deadline=None)
def test_all_plots_of_a_movie_lose_the_same_modality_and_no_item_loses_both(
    plots: list[list[str | None]], config: MissingConfig
) -> None:
    split = movies(plots)

    table = table_for(split, "films", config)

    of_movie = [{int(table[i]) for i, item in enumerate(split.items) if item.group == g} for g in range(len(plots))]
    complete = [None not in texts for texts in plots]
    assert all(len(lacks) == 1 for lacks, whole in zip(of_movie, complete, strict=True) if whole)
    assert all(table[i] == Lacks.TEXT for i, item in enumerate(split.items) if item.text is None)
    assert sum(lacks != {0} for lacks in of_movie) == max(int(len(plots) * config.ratio), complete.count(False))


def test_a_table_of_movies_is_saved_by_image_and_reads_back_as_it_was(tmp_path: Path) -> None:
    split = movies([["a", "b"], ["c", None], ["d"], ["e", "f", "g"], [None]] * 8, frozenset())
    drawn = MissingConfig(type="both", ratio=0.7, seed=3)

    table = table_for(split, "films", drawn, tmp_path)
    (saved,) = tmp_path.iterdir()
    read = table_for(split, "films", drawn.model_copy(update={"table": str(saved)}), tmp_path)

    assert np.load(saved, allow_pickle=False).shape == (40,)
    assert len(table) == 72
    assert (read == table).all()
    assert {path.name for path in tmp_path.iterdir()} == {saved.name, f"{saved.stem}_from_{saved.stem}.npy"}


def test_a_table_of_another_draw_is_never_overwritten(tmp_path: Path) -> None:
    config = MissingConfig(ratio=0.5)
    few, more = (Split("train", "made", [Example(i, b"x", "t", ("a",)) for i in range(n)]) for n in (10, 11))
    table_for(few, "colors", config, tmp_path)
    (saved,) = tmp_path.iterdir()
    before = saved.read_bytes()

    table_for(few, "colors", config, tmp_path)  # a run that goes on
    with pytest.raises(RunError, match="another table than this data and configuration give; choose another --output"):
        table_for(more, "colors", config, tmp_path)

    assert saved.read_bytes() == before


FIVE = Split("validation", "made", [Example(row, b"x", "a text", ("a",)) for row in range(1, 6)])


def authors(folder: Path, values: object, name: str = "mmimdb_splitval_missing_both_0.6.pt") -> str:
    torch.save(values, folder / name)
    return str(folder / name)


@pytest.mark.parametrize(
    "name",
    [
        "mmimdb_splitval_missing_both_0.6.pt",
        "mmimdb_dev_missing_both_06.pt",
        "mmimdb_val_missing_both_06_05.pt",
        "x.pt",
    ],
)
def test_a_table_of_the_authors_keeps_its_entries(tmp_path: Path, name: str) -> None:
    path = authors(tmp_path, torch.tensor([0.0, 1, 2, 0, 1]), name)

    table = table_for(FIVE, "films", MissingConfig(ratio=0.6, table=path))

    assert table.tolist() == [Lacks.NOTHING, Lacks.TEXT, Lacks.IMAGE, Lacks.NOTHING, Lacks.TEXT]
    assert table.dtype == np.int8


def test_naturally_missing_modalities_are_added_to_a_table(tmp_path: Path) -> None:
    split = Split("validation", "made", [Example(1, None, "t", ()), *FIVE.items[1:]])
    path = authors(tmp_path, torch.tensor([0, 1, 2, 0, 1]))

    table = table_for(split, "films", MissingConfig(ratio=0.6, table=path))

    assert table.tolist() == [Lacks.IMAGE, Lacks.TEXT, Lacks.IMAGE, Lacks.NOTHING, Lacks.TEXT]


def test_a_table_that_would_empty_a_row_is_refused_with_the_row(tmp_path: Path) -> None:
    split = Split("validation", "made", [FIVE.items[0], Example(2, None, "t", ()), *FIVE.items[2:]])
    path = authors(tmp_path, torch.tensor([0, 1, 2, 0, 1]))

    with pytest.raises(DataError, match=r"removes the text of row 2 of made \(validation\), which has no image"):
        table_for(split, "films", MissingConfig(ratio=0.6, table=path))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m_splitval_missing_both_0.9.pt", r"ratio 0\.9 by its name.*set missing\.validation\.ratio"),
        ("m_splitval_missing_both_09.pt", r"missing\.validation\.ratio is 0\.6"),
        ("m_splitval_missing_text_0.6.pt", r"type text by its name, but missing\.validation\.type is both"),
        ("m_splittrain_missing_both_0.6.pt", r"is the table of train by its name; name the table of validation"),
        (
            "m_validation_missing_both_ratio0.6_both0.25_seed0.pt",
            r"both_ratio 0\.25.*missing\.validation\.both_ratio is 0\.5",
        ),
        ("m_validation_missing_both_ratio0.6_both0.5_seed4.pt", r"seed 4 by its name"),
    ],
)
def test_a_file_name_with_another_setting_is_refused(tmp_path: Path, name: str, says: str) -> None:
    path = authors(tmp_path, torch.tensor([0, 1, 2, 0, 1]), name)

    with pytest.raises(DataError, match=says):
        table_for(FIVE, "films", MissingConfig(ratio=0.6, table=path))


@pytest.mark.parametrize(
    ("values", "config", "says"),
    [
        ([0, 1, 2, 0], {}, "has 4 entries, the split 5 images"),
        ([[0, 1, 2, 0, 1]], {}, "has 1 x 5 entries"),
        ([0, 1, 3, 0, 1], {}, "has entries other than 0"),
        ([0, 1, float("nan"), 0, 1], {}, "has entries other than 0"),
        (
            [0, 0, 0, 0, 1],
            {"ratio": 0.9},
            r"removes a modality of 20\.0% of the images.*set missing\.validation\.ratio to 0\.2",
        ),
        ([2, 1, 1, 0, 1], {"ratio": 0.4}, r"removes a modality of 80\.0% of the images"),
        (
            [0, 1, 2, 0, 1],
            {"type": "text"},
            r"also removes images, but .*type is text; set missing\.validation\.type",
        ),
        ([0, 1, 2, 0, 1], {"type": "image"}, r"also removes texts, but .*type is image"),
    ],
)
def test_a_table_whose_entries_do_not_fit_is_refused(
    tmp_path: Path, values: list[object], config: dict[str, object], says: str
) -> None:
    path = authors(tmp_path, torch.tensor(values), "mask.pt")

    with pytest.raises(DataError, match=says):
        table_for(FIVE, "films", MissingConfig.model_validate({"ratio": 0.6, "table": path, **config}))


def npy(values: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


HUGE_NPY = npy(np.zeros(3)).replace(b"(3,), }" + b" " * 12, b"(9" + b"9" * 12 + b",), }")  # more than any memory


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.pt", None, "does not exist"),
        ("cut.pt", b"PK\x03\x04", "cannot be read as a missing table"),
        ("text.npy", b"words", "cannot be read as a missing table"),
        ("text.pt", b"hello world", "as a missing table .its content is of another kind"),
        ("empty.pt", b"", "as a missing table .its content is of another kind"),
        ("fields.npy", npy(np.zeros(4, [("a", "i4")])), "as a missing table .it is no array of numbers"),
        ("words.npy", npy(np.array(["0"])), "as a missing table .it is no array of numbers"),
        ("huge.npy", HUGE_NPY, "cannot be read as a missing table"),
        ("mask.csv", b"0,1", r"its name must end in \.pt or \.npy"),
    ],
)
def test_an_unreadable_table_is_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=says):
        table_for(FIVE, "films", MissingConfig(ratio=0.6, table=str(tmp_path / name)))


class Unpickled:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_no_code_in_a_table_is_run(tmp_path: Path) -> None:
    path = authors(tmp_path, Unpickled(tmp_path / "made"))

    with pytest.raises(DataError, match="cannot be read as a missing table"):
        table_for(FIVE, "films", MissingConfig(ratio=0.6, table=path))

    assert not (tmp_path / "made").exists()


def test_a_table_must_be_a_tensor(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a missing table"):
        table_for(FIVE, "films", MissingConfig(ratio=0.6, table=authors(tmp_path, {"mask": torch.zeros(5)})))


def test_a_table_of_type_text_may_hold_naturally_missing_images(tmp_path: Path) -> None:
    split = Split("validation", "made", [Example(1, None, "t", ()), *FIVE.items[1:]])
    drawn = MissingConfig(type="text", ratio=0.6)

    table = table_for(split, "films", drawn, tmp_path)
    (saved,) = tmp_path.iterdir()

    assert (table_for(split, "films", drawn.model_copy(update={"table": str(saved)})) == table).all()


def shared(pictures: list[str | None], groups: bool = False) -> Split:
    """Items whose pictures are told apart by these letters; None: no picture."""
    items = [
        Example(
            row, None if key is None else b"x", f"text {row}", ("a",), row if groups else None, key and key.encode()
        )
        for row, key in enumerate(pictures, start=1)
    ]
    return Split("validation", "made", items)


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize(
    "pictures",
    [
        [letter for letter in "abcdefghij" for _ in range(3)],
        [*"abcdefghij" * 4, None, None],
        ["a"] * 30 + [*"bcdefghijk"],
    ],
    ids=["neighbours", "far apart", "one giant"],
)
def test_rows_of_one_picture_lose_the_same_modality(pictures: list[str | None], groups: bool, tmp_path: Path) -> None:
    """Whether they come from a csv or from data that lists its images."""
    split, drawn = shared(pictures, groups), MissingConfig(ratio=0.6, seed=1)

    table = table_for(split, "shop", drawn, tmp_path)
    (saved,) = tmp_path.iterdir()
    read = table_for(split, "shop", drawn.model_copy(update={"table": str(saved)}))

    lacks = {key: {int(table[row]) for row, other in enumerate(pictures) if other == key} for key in {*pictures}}
    assert all(len(values) == 1 for values in lacks.values())
    distinct = len({*pictures} - {None}) + pictures.count(None)
    assert sum(values != {0} for key, values in lacks.items() if key) + pictures.count(None) == int(distinct * 0.6)
    assert np.load(saved, allow_pickle=False).shape == (distinct,)
    assert (read == table).all()


def test_a_table_of_the_authors_may_hide_other_modalities_of_equal_pictures(tmp_path: Path) -> None:
    path = authors(tmp_path, torch.tensor([0, 1, 2, 0, 1]))

    table = table_for(shared(["a", "a", "a", "b", "b"]), "films", MissingConfig(ratio=0.6, table=path))

    assert table.tolist() == [0, 1, 2, 0, 1]


def test_a_table_that_fits_neither_the_images_nor_the_pictures_is_refused(tmp_path: Path) -> None:
    path = authors(tmp_path, torch.tensor([0, 1, 2, 0]))

    with pytest.raises(DataError, match="has 4 entries, the split 5 images, of which 2 differ; name the split's table"):
        table_for(shared(["a", "a", "a", "b", "b"]), "films", MissingConfig(ratio=0.6, table=path))


def test_an_existing_table_is_not_written_again(tmp_path: Path) -> None:
    table_for(FIVE, "films", MissingConfig(ratio=0.6), tmp_path)
    (saved,) = tmp_path.iterdir()
    before = saved.stat()

    table_for(FIVE, "films", MissingConfig(ratio=0.6), tmp_path)

    assert (saved.stat().st_ino, saved.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
