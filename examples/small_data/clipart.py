"""Drawings of openclipart: title and category, with the split of examples/openclipart."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from examples.openclipart.cleaning import clean_title, split_key, split_of
from examples.openclipart.drawings import CATEGORY_OF_FOLDER, rdf_fields
from examples.small_data.items import Item, small_png, without_repetitions

BACKBONE = {"train": "seen", "validation": "held out", "test": "held out"}  # pretraining took the training split


def read_clipart(root: Path) -> Iterator[Item]:
    """One drawing of each title that has a category; `backbone` says whether the backbone was pretrained on it."""
    drawings = root / "usr/share/openclipart"
    paths = [path for path in sorted((drawings / "png").rglob("*.png")) if category_of(path, drawings)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        titles = pool.map(partial(title_of, drawings=drawings), paths, chunksize=16)
        chosen: dict[str, tuple[Path, str]] = {}  # by the key that equal and nearly equal titles share
        for path, title in zip(paths, track(titles, "Reading titles", total=len(paths)), strict=True):
            if title:
                chosen.setdefault(split_key(title, path.stem), (path, title))
        pictures = pool.map(small_png, [path for path, _ in chosen.values()], chunksize=16)
        items = []
        for (key, (path, title)), picture in zip(
            chosen.items(), track(pictures, "Reading drawings", total=len(chosen)), strict=True
        ):
            category = category_of(path, drawings) or ""
            fields = {"title": title, "category": category, "backbone": BACKBONE[split_of(key)]}
            items.append(Item(str(path.relative_to(drawings / "png")), picture, fields))
    return without_repetitions(items, text="title")


def category_of(path: Path, drawings: Path) -> str | None:
    return CATEGORY_OF_FOLDER.get(path.relative_to(drawings / "png").parts[0])


def title_of(path: Path, drawings: Path) -> str | None:
    """The cleaned title in the SVG that a picture was rendered from."""
    svg = drawings / "svg" / path.relative_to(drawings / "png").with_suffix(".svg")
    fields = rdf_fields(svg.read_text(encoding="utf-8", errors="replace"))
    return clean_title(fields["title"], path.stem, fields["creator"])
