"""The pretraining pictures of the backbone: training drawings, emoji, icons and stamps, each with a caption.

Pictures that look like a drawing of the validation or test split are left out.
"""

import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track

from examples.openclipart.icons import STAMPS, Source, emoji_sources, icon_sources, render, stamp_sources

SAME_PICTURE = 4.0  # root mean square difference of 16 x 16 thumbnails, of 255
Row = dict[str, Any]


def drawing_rows(data: Path) -> list[Row]:
    """The training drawings of both tasks; their context is category and keywords."""
    rows: dict[str, Row] = {}
    for task in ("category", "keywords"):
        for row in pq.read_table(data / task / "train.parquet").to_pylist():
            new = {
                "image": row["image"],
                "caption": row["text"] or "",
                "context": "",
                "category": None,
                "source": "openclipart",
            }
            known = rows.setdefault(row["path"], new)
            if task == "category":
                known["category"] = row["label"]
            labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
            known["context"] = ", ".join(filter(None, [known["context"], *labels]))
    return list(rows.values())


def rendered_rows(sources: list[Source]) -> Iterator[Row]:
    with ProcessPoolExecutor() as pool:
        images = pool.map(render, sources, chunksize=64)
        for source, image in zip(sources, track(images, "Drawing icons", total=len(sources)), strict=True):
            if image:
                yield {
                    "image": image,
                    "caption": source.caption,
                    "context": source.context,
                    "category": None,
                    "source": source.name,
                }


def thumbnail(png: bytes) -> npt.NDArray[np.float32]:
    image = Image.open(io.BytesIO(png)).convert("RGB").resize((16, 16), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32).ravel()


def without_evaluation(rows: list[Row], data: Path) -> list[Row]:
    """Drop repeated pictures, and those that look like a validation or test drawing of either task."""
    held_out = {
        row["path"]: row["image"]
        for task in ("category", "keywords")
        for split in ("validation", "test")
        for row in pq.read_table(data / task / f"{split}.parquet", columns=["path", "image"]).to_pylist()
    }
    forbidden = np.stack([thumbnail(png) for png in track(held_out.values(), "Held-out thumbnails")])
    kept, seen = [], set()
    for row in track(rows, "Comparing"):
        small = thumbnail(row["image"])
        distance = np.sqrt(np.square(forbidden - small).mean(axis=1).min())
        if distance > SAME_PICTURE and row["image"] not in seen:
            seen.add(row["image"])
            kept.append(row)
    return kept


def gather(cache: Path, data: Path, node_modules: Path) -> list[Row]:
    """All pictures with caption, context and source; rendered once, then read from the cache."""
    path = cache / "pictures.parquet"
    if not path.exists():
        sources = [*emoji_sources(node_modules), *icon_sources(Path("/usr/share/icons")), *stamp_sources(STAMPS)]
        rows = without_evaluation([*drawing_rows(data), *rendered_rows(sources)], data)
        cache.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    return cast(list[Row], pq.read_table(path).to_pylist())
