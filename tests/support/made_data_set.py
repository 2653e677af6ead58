"""A parquet data set with every form of image and text, and every kind of bad row; labelled without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.labelling.job import Job, parquet_files, resume
from service.labelling.parts import Labelled, PartLabeller
from service.labelling.planning import BulkOptions, plan
from service.settings import Settings
from tests.support.tiny import PICTURE, encode_png

TEXTS = ["a red apple", None, "a green square of red", "", "apple"]


def write_data_set(folder: Path, pixels: np.ndarray, form: str = "bytes", rows: int = 60) -> list[dict]:
    """Two files, one in a folder of its own and without images; returns what each row is to be asked as, in order.

    Args:
        form: of the images: `bytes`, `struct` (bytes and path) or `path`.
    """
    (folder / "more").mkdir(parents=True)
    pictures = [encode_png((pixels // (1 + seed)).astype(np.uint8)) for seed in range(20)]
    images = [pictures[row % 20] if row % 3 else None for row in range(rows)]
    images[7:11] = [PICTURE[:60], b"GIF89a", b"", pictures[1]]
    texts = [TEXTS[row % 5] for row in range(rows)]
    asked = [
        {"id": row, "image": image, "text": text} for row, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    cells = [None if image is None else _cell(folder, form, f"{row}.png", image) for row, image in enumerate(images)]
    if form != "bytes":
        cells[4] = "gone.png" if form == "path" else {"bytes": None, "path": ".."}
        asked[4] = {"id": 4, "error": "not_found"}
    columns = {"id": list(range(rows)), "image": cells, "text": pa.array(texts, pa.string())}
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=rows // 2 + 3)
    pq.write_table(pa.table({"id": [100, 101], "text": broken_strings()}), folder / "more" / "b.parquet")
    return [*asked, {"id": 100, "image": None, "text": "red"}, {"id": 101, "error": "bad_text"}]


def _cell(folder: Path, form: str, name: str, image: bytes) -> object:
    if form == "bytes":
        return image
    if form == "struct" and image != PICTURE:
        return {"bytes": image, "path": name if image else None}
    (folder / name).write_bytes(image)
    return name if form == "path" else {"bytes": None, "path": name}


def broken_strings() -> pa.Array:
    """Two strings, of which the second is no UTF-8."""
    good = pa.array([b"red", b"\xff\xfe"], pa.binary())
    return pa.Array.from_buffers(pa.string(), 2, good.buffers())


@contextmanager
def planned(source: Path, output: Path, store: Path, **options: object) -> Iterator[tuple[Job, PartLabeller]]:
    """The job, and a worker for it in this process."""
    settings = Settings(store=store, intra_op_threads=1)
    output.mkdir(exist_ok=True)
    job, schema = plan(BulkOptions(source, output, **options), settings)
    labeller = PartLabeller(job, parquet_files(source)[0], output, schema, settings)
    try:
        yield job, labeller
    finally:
        labeller.close()


def label_here(source: Path, output: Path, store: Path, **options: object) -> list[Labelled]:
    """Label what is not labelled yet, in this process and in order."""
    with planned(source, output, store, **options) as (job, labeller):
        return [labeller.label(part.number) for part in resume(job, output)]
