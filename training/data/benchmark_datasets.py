"""MM-IMDb, UPMC Food-101 and Hateful Memes in their authors' folders and files; CIRR is read by `cirr`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.progress import track

from model_store.items.cells import existing, is_missing
from model_store.items.labels import labels_of
from model_store.items.rows import Row, table_errors
from model_store.items.tables import open_table
from model_store.items.text_files import csv_records
from training.config import TaskConfig
from training.data.cirr import read_cirr
from training.data.dataset_layout import Layout, json_object, json_objects, refuse, splits_of
from training.data.tables import all_rows, data_errors

# fmt: off
GENRES = ("Drama", "Comedy", "Romance", "Thriller", "Crime", "Action", "Adventure", "Horror", "Documentary", "Mystery",
          "Sci-Fi", "Fantasy", "Family", "Biography", "War", "History", "Music", "Animation", "Musical", "Western",
          "Sport", "Short", "Film-Noir")
# fmt: on
_MEMES = {"train": "train.jsonl", "validation": "dev.jsonl", "test": "test.jsonl"}


def read_tree(root: Path, config: TaskConfig) -> Layout:
    """The rows of the configured format; images stay paths.

    Raises:
        DataError: files are missing or broken; the message names the first ten and the cure.
    """
    data_format = config.data.format
    if data_format == "mmimdb":
        return _mmimdb(root, config)
    if data_format == "cirr":
        return read_cirr(root)
    return _food101(root) if data_format == "food101" else _hateful_memes(root)


def _mmimdb(root: Path, config: TaskConfig) -> Layout:
    """One row for each plot of a movie; genres that are not labels of the task are left out, as by the authors."""
    (listing,) = json_objects(root, ["split.json"])
    labels, dropped = set(config.labels or GENRES), Counter[str]()
    splits: dict[str, list[Row]] = {}
    faults = []
    for split, movies in splits_of(root, listing).items():
        splits[split] = []
        for group, movie in enumerate(track(movies, f"reading {split}")):
            image, file = f"images/{movie}.jpeg", f"labels/{movie}.json"
            if not existing(root / image).is_file():
                faults.append(f"{image} is missing")
            try:
                plots, genres = _plots_and_genres(root / file)
            except ValueError as error:
                faults.append(f"{file} {error}")
                continue
            dropped.update(genre for genre in genres if genre not in labels)
            row = {"image": image, "label": [genre for genre in genres if genre in labels], "group": group}
            splits[split] += [row | {"text": plot} for plot in plots or [None]]
    refuse(root, faults, "unpack the data set again, or take these movies out of split.json")
    counts = ", ".join(f"{genre} {count:,}" for genre, count in dropped.most_common(10))
    notes = (f"left out {dropped.total():,} genres that are not among the labels: {counts}",) if dropped else ()
    return Layout(splits, root, notes)


def _plots_and_genres(path: Path) -> tuple[list[Any], list[str]]:
    movie = json_object(path)
    plots, genres = movie.get("plot"), movie.get("genres")
    if not isinstance(plots, list) or not isinstance(genres, list):
        raise ValueError("lacks a list `plot` or a list `genres`")
    return plots, [*labels_of(genres)]


def _food101(root: Path) -> Layout:
    """The splits of split.json with the titles of text.json; without them train and test of the lists in texts/."""
    if not (root / "split.json").is_file() and (root / "texts").is_dir():
        return Layout({split: _titles(root, split) for split in ("train", "test")}, root)
    listing, titles, classes = json_objects(root, ["split.json", "text.json", "class_idx.json"])
    splits: dict[str, list[Row]] = {}
    faults = []
    for split, files in splits_of(root, listing).items():
        splits[split] = []
        for file in track(files, f"reading {split}"):
            label = file.rpartition("_")[0]
            image = f"images/{'test' if split == 'test' else 'train'}/{label}/{file}"
            if label not in classes:
                faults.append(f"split.json names {file}, whose name begins with no class of class_idx.json")
            elif not existing(root / image).is_file():
                faults.append(f"{image} is missing")
            splits[split].append({"image": image, "text": titles.get(file), "label": label})
    refuse(root, faults, "unpack the data set again, or take these files out of split.json")
    untitled = sum(row["text"] is None for rows in splits.values() for row in rows)
    notes = (f"{untitled:,} images have no title in text.json, so no text",) if untitled else ()
    return Layout(splits, root, notes)


def _titles(root: Path, split: str) -> list[Row]:
    """The rows of a list whose lines hold file, title and class, without a header."""
    path, rows, faults = root / "texts" / f"{split}_titles.csv", [], []
    with data_errors(), table_errors(path):
        records = [*csv_records(path, ",")]
    for line, cells in track(records, f"reading {split}"):
        if len(cells) != 3:
            faults.append(f"texts/{path.name} line {line} has {len(cells)} cells, not file, title and class")
            continue
        file, title, label = (cell.strip() for cell in cells)
        rows.append({"image": f"images/{split}/{label}/{file}", "text": title, "label": label})
        if not existing(root / rows[-1]["image"]).is_file():
            faults.append(f"{rows[-1]['image']} is missing")
    refuse(root, faults, f"unpack the data set again, or take these rows out of texts/{path.name}")
    return rows


def _hateful_memes(root: Path) -> Layout:
    """The memes of {train,dev,test}.jsonl, at the root or under data/."""
    folder = root if (root / "train.jsonl").is_file() else root / "data"
    missing = [f"{name} is missing" for name in _MEMES.values() if not (folder / name).is_file()]
    refuse(root, missing, "put these files beside img/, in data.root or in its folder data/")
    return Layout({split: _memes(folder / name) for split, name in _MEMES.items()}, folder)


def _memes(path: Path) -> list[Row]:
    with data_errors():
        table = open_table(path)
        memes = all_rows(table, ("img", "text", "label"))
    missing = [f"no meme has a field {name}" for name in ("img", "text") if memes and name not in table.names]
    refuse(path, missing, "fetch the file again; each line holds id, img, text and label")
    refuse(
        path,
        [f"row {number} has no label" for number, meme in enumerate(memes, start=1) if is_missing(meme.get("label"))],
        "the first public release withholds the labels of its test split; replace test.jsonl by test_seen.jsonl of the "
        "later release, which has labels",
    )
    return [{"image": meme["img"], "text": meme["text"], "label": meme["label"]} for meme in memes]
