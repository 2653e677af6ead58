"""The pretraining pictures of the backbone: emoji and icons, each with a caption.

Pictures that look like a drawing of the two tasks, or like one of Tux Paint's stamps, are left out: the backbone is
tested on these items.
"""

import io
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track

from examples.openclipart.drawings import on_white
from examples.openclipart.icons import Source, render, set_sources, theme_sources

ICON_THEMES = Path("/usr/share/icons")
STAMPS = Path("/usr/share/tuxpaint/stamps")
SAME_PICTURE = 4.0  # root mean square difference of 16 x 16 thumbnails, of 255
Row = dict[str, Any]  # of image, caption, context and source


def gather(cache: Path, data: Path, node_modules: Path, without: Collection[str] = ()) -> list[Row]:
    """All pictures with caption, context and source; rendered once, then read from the cache.

    Args:
        cache: folder of `pictures.parquet`.
        data: output of prepare.py.
        node_modules: folder with the @iconify-json sets.
        without: sets and themes that are left out.
    """
    path = cache / "pictures.parquet"
    if not path.exists():
        sources = [*set_sources(node_modules), *theme_sources(ICON_THEMES)]
        rows = without_test_items(rendered_rows(sources), len(sources), [*drawings(data), *stamps(STAMPS)])
        cache.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    rows = cast(list[Row], pq.read_table(path).to_pylist())
    if unknown := set(without) - {row["source"] for row in rows}:
        raise ValueError(f"no set or theme is called {', '.join(sorted(unknown))}")
    return [row for row in rows if row["source"] not in without]


def rendered_rows(sources: list[Source]) -> Iterator[Row]:
    with ProcessPoolExecutor() as pool:
        for source, image in zip(sources, pool.map(rendered, sources, chunksize=64), strict=True):
            if image:
                yield {
                    "image": image,
                    "caption": source.caption,
                    "context": source.context,
                    "source": source.name,
                }


def rendered(source: Source) -> bytes | None:
    """The picture as lossless WebP."""
    if (image := render(source)) is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=50)
    return buffer.getvalue()


def drawings(data: Path) -> Iterator[Image.Image]:
    """Every drawing of both tasks, whatever its split."""
    for task in ("category", "keywords"):
        for split in ("train", "validation", "test"):
            for encoded in pq.read_table(data / task / f"{split}.parquet", columns=["image"])["image"].to_pylist():
                yield Image.open(io.BytesIO(encoded))


def stamps(folder: Path) -> Iterator[Image.Image]:
    """Tux Paint's stamps that are PNG files, as the data sets of `examples/small_data` have them."""
    for path in sorted(folder.rglob("*.png")):
        yield on_white(Image.open(path))


def thumbnail(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()


def without_test_items(rows: Iterable[Row], count: int, test_items: Iterable[Image.Image]) -> list[Row]:
    """Drop repeated pictures, and those that look like a test item; `count` is the number of rows."""
    forbidden = np.stack([thumbnail(image) for image in track(test_items, "Thumbnails of test items", total=None)])
    lengths = np.square(forbidden).sum(axis=1)
    kept, seen = [], set()
    for row in track(rows, "Drawing icons", total=count):
        small = thumbnail(Image.open(io.BytesIO(row["image"])))
        squares = lengths - 2 * forbidden @ small + small @ small  # of the distances
        if squares.min() > SAME_PICTURE**2 * len(small) and row["image"] not in seen:
            seen.add(row["image"])
            kept.append(row)
    return kept
