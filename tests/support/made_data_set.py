"""A parquet data set with every form of image and text and every kind of bad row, and its labelling without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.labelling.bulk import LabelledPart, PartLabeller
from service.labelling.job import Part, resume
from service.labelling.planning import BulkOptions, Plan, make_plan
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
    images[7:11] = [PICTURE[:60], b"BM", b"", pictures[1]]
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


def planned(source: Path, output: Path, store: Path, **options: object) -> Plan:
    """The plan of a job with one thread."""
    output.mkdir(exist_ok=True)
    return make_plan(BulkOptions(source, output, **options), Settings(store=store, intra_op_threads=1))


def label_data(source: Path, output: Path, store: Path, **options: object) -> list[LabelledPart]:
    """Label the parts that are not labelled yet, in this process and in order."""
    plan = planned(source, output, store, **options)
    return label_here(plan, resume(plan.job, output))


def label_here(plan: Plan, parts: Sequence[Part]) -> list[LabelledPart]:
    """Label the parts in this process."""
    with closing(PartLabeller(plan)) as labeller:
        return [labeller.label(part) for part in parts]
