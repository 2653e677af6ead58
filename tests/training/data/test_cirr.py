"""CIRR in its authors' layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import TaskConfig
from training.data.splits import load_data
from training.errors import DataError

Make = Callable[..., TaskConfig]


@pytest.fixture
def root(tmp_path: Path, png: Callable[..., bytes]) -> Path:
    """Eight pairs of train and three of val; the picture of one pair is the reference of the next."""
    for split, folder, count in (("train", "train/0", 8), ("val", "dev", 3)):
        (tmp_path / folder).mkdir(parents=True)
        names = [f"{split}-{number}-img0" for number in range(count + 1)]
        for number, name in enumerate(names):
            (tmp_path / folder / f"{name}.png").write_bytes(png(hash_of(split) + number))
        listing = {name: f"./{folder}/{name}.png" for name in names}
        captions = [
            {
                "pairid": number,
                "reference": names[number],
                "target_hard": names[number + 1],
                "target_soft": {names[number + 1]: 1.0},
                "caption": f"the {number}. one, turned",
                "img_set": {"id": 1, "members": names},
            }
            for number in range(count)
        ]
        write(tmp_path / f"cirr/captions/cap.rc2.{split}.json", captions)
        write(tmp_path / f"cirr/image_splits/split.rc2.{split}.json", listing)
    return tmp_path


def hash_of(split: str) -> int:
    return {"train": 0, "val": 100}[split]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_a_pair_is_a_picture_a_change_and_the_result(retrieval_config: Make, root: Path) -> None:
    data = load_data(retrieval_config(data={"format": "cirr", "root": str(root)}))

    assert len(data.test.items) == 3
    assert len(data.train.items) + len(data.validation.items) == 8
    first = data.test.items[0]
    assert (first.image, first.text) == (root / "dev/val-0-img0.png", "the 0. one, turned")
    assert first.target is not None
    assert (first.target.image, first.target.text) == (root / "dev/val-1-img0.png", None)
    assert any("the test split is CIRR's val" in note for note in data.notes)
    assert not any("target_text is empty" in note for note in data.notes)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: (root / "cirr/captions/cap.rc2.val.json").unlink(), "cap.rc2.val.json is missing; clone"),
        (lambda root: (root / "cirr/captions/cap.rc2.val.json").write_text("[1]"), "is not a list of objects"),
        (lambda root: (root / "cirr/captions/cap.rc2.val.json").write_text("["), "is not JSON"),
        (lambda root: (root / "cirr/captions/cap.rc2.val.json").write_text("[" * 5000), "is not JSON"),
        (
            lambda root: write(
                root / "cirr/captions/cap.rc2.val.json", [{"pairid": 7, "reference": [], "target_hard": 1}]
            ),
            "pair 7 has a reference or target_hard that is no name",
        ),
        (lambda root: (root / "dev/val-1-img0.png").unlink(), "dev/val-1-img0.png is missing"),
        (
            lambda root: write(root / "cirr/image_splits/split.rc2.val.json", {}),
            "pair 0 has no 'val-0-img0' in cirr/image_splits",
        ),
    ],
)
def test_missing_and_broken_files_are_named(
    retrieval_config: Make, root: Path, damage: Callable[[Path], object], says: str
) -> None:
    damage(root)

    with pytest.raises(DataError) as refused:
        load_data(retrieval_config(data={"format": "cirr", "root": str(root)}))

    assert says in str(refused.value)


def test_a_task_with_labels_does_not_read_it(make_config: Make, root: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.format cirr has targets and no labels; set problem to retrieval"):
        make_config(data={"format": "cirr", "root": str(root)})
