"""CIRR (Liu et al. 2021, arXiv 2108.04024) in its authors' folders: pictures, changes to them in words, and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.progress import track

from model_store.items.cells import existing
from model_store.items.rows import Row
from training.data.dataset_layout import Layout, json_object, refuse
from training.errors import DataError

_VERSION = "rc2"
_SPLITS = {"train": "train", "test": "val"}  # ours: the authors'; their test split has no targets
_NOTE = (
    "the test split is CIRR's val, because the targets of its test1 are not published; validation is a share of train"
)


def read_cirr(root: Path) -> Layout:
    """One row for each change: the reference picture and the caption, and the picture that they ask for.

    `root` has the folder `cirr` with the JSON files, and the pictures in `train` and `dev`.

    Raises:
        DataError: files are missing or broken; the message names the first ten and the cure.
    """
    splits = {ours: _rows(root, theirs) for ours, theirs in _SPLITS.items()}
    return Layout(splits, root, (_NOTE,))


def _rows(root: Path, split: str) -> list[Row]:
    captions, listing = (f"cirr/{folder}.{_VERSION}.{split}.json" for folder in ("captions/cap", "image_splits/split"))
    try:
        queries, path_of = _json_objects_in(root / captions), json_object(root / listing)
    except ValueError as error:
        cure = "clone github.com/Cuberick-Orion/CIRR into the folder cirr, or correct data.root"
        raise DataError(f"{root} is not CIRR in its authors' layout: {error}; {cure}") from error
    rows: list[Row] = []
    faults = []
    for query in track(queries, f"reading {split}"):
        try:
            names = [query["reference"], query["target_hard"]]
            image, target = (str(path_of[name]).removeprefix("./") for name in names)
        except KeyError as error:
            faults.append(f"{captions}: pair {query.get('pairid')} has no {error} in {listing}")
            continue
        except TypeError:
            faults.append(f"{captions}: pair {query.get('pairid')} has a reference or target_hard that is no name")
            continue
        faults += [f"{path} is missing" for path in (image, target) if not existing(root / path).is_file()]
        row = {"image": image, "text": query.get("caption"), "target_image": target, "target_text": None}
        rows.append(row)
    refuse(root, list(dict.fromkeys(faults)), "fetch the pictures of NLVR2 into train and dev, or set data.root")
    return rows


def _json_objects_in(path: Path) -> list[dict[str, Any]]:
    """The list of objects in a JSON file. Raises ValueError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (OSError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{path} is not a list of objects")
    return values
