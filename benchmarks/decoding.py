"""Time saved by decoding large JPEGs at a reduced scale, and the change in features and labels.

    python -m benchmarks.decoding --drawings examples/openclipart/data/category/test.parquet

Times: decode and `pixel_values` of generated 12-megapixel JPEGs, at full and reduced scale alternately, on one thread.
Changes: drawings enlarged to 12 megapixels, their image features and best label by the shipped category model.
Without --drawings it uses the few pictures in examples/openclipart/held_out.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray
from PIL import Image, features
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_store import ImagePreprocessing, Store
from model_store.items.pictures import decode, pixel_values
from model_store.items.pixels import fit, normalised
from service.models.head import Features
from service.models.loaded_model import Model
from service.models.loading import Loader
from service.settings import Settings
from training.provenance import machine

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "examples" / "openclipart" / "held_out"
TASK = "clipart-category"
SIZE = (4000, 3000)
CLIP = ImagePreprocessing(
    shortest_edge=224,
    crop=(224, 224),
    resample="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
JPEGS = {"baseline": (3, False), "baseline, grainy": (10, False), "progressive": (3, True)}  # grain, progressive
Way = Callable[[bytes, ImagePreprocessing], NDArray[np.float32]]


def whole(data: bytes, preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
    """(3, H, W) from a decode at full scale."""
    return normalised(fit(decode(data), preprocessing), preprocessing)


def reduced(data: bytes, preprocessing: ImagePreprocessing) -> NDArray[np.float32]:
    """(3, H, W) as training and the service make them."""
    return pixel_values(data, preprocessing)


def photograph(grain: int) -> Image.Image:
    """Noise at every scale, stronger at coarser scales; `grain` is the strength of the finest, in levels of 255."""
    rng = np.random.default_rng(0)
    total = np.full((SIZE[1], SIZE[0], 3), 128, np.float32)
    for edge, strength in ((4, 45), (16, 25), (64, 14), (256, 8), (1024, 5), (SIZE[0], grain)):
        noise = rng.integers(0, 256, (edge * SIZE[1] // SIZE[0], edge, 3), dtype=np.uint8)
        total += strength / 74 * (np.asarray(Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)) - 127.5)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, progressive: bool = False) -> bytes:
    """A file of quality 90."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=90, progressive=progressive)
    return file.getvalue()


def timed(way: Way, data: bytes, preprocessing: ImagePreprocessing) -> tuple[NDArray[np.float32], float]:
    """Pixel values, and the milliseconds they took."""
    started = time.perf_counter()
    pixels = way(data, preprocessing)
    return pixels, 1000 * (time.perf_counter() - started)


def measure_times(targets: dict[str, ImagePreprocessing], rounds: int) -> list[dict[str, Any]]:
    """Medians of both ways for each generated JPEG and target."""
    figures = []
    for kind, (grain, progressive) in track(JPEGS.items(), "generated JPEGs"):
        data = jpeg(photograph(grain), progressive)
        for target, preprocessing in targets.items():
            rows = [[timed(way, data, preprocessing)[1] for way in (whole, reduced)] for _ in range(rounds)]
            megabytes = round(len(data) / 1e6, 1)
            figures.append({"jpeg": kind, "megabytes": megabytes, "target": target, **compared(rows)})
    return figures


def compared(rows: list[list[float]]) -> dict[str, float]:
    """Medians of (whole, reduced) milliseconds, and their ratio."""
    full, less = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"whole_ms": round(full, 1), "reduced_ms": round(less, 1), "share_of_whole": round(less / full, 3)}


def read_drawings(path: Path | None, items: int) -> list[bytes]:
    """A fixed sample of the encoded pictures of a split, or all pictures in the repository."""
    if path is None:
        return [file.read_bytes() for file in sorted(HELD_OUT.glob("*.png"))]
    images = [image for image in pq.read_table(path, columns=["image"])["image"].to_pylist() if image is not None]
    chosen = np.random.default_rng(0).permutation(len(images))[:items]
    return [images[index] for index in chosen]


def measure_changes(model: Model, drawings: list[bytes]) -> dict[str, Any]:
    """Cosine between the features of both ways, and the share of pictures whose best label is the same."""
    cosines, rows, same = [], [], 0
    for drawing in track(drawings, "drawings"):
        data = jpeg(decode(drawing).resize(SIZE, Image.Resampling.BICUBIC))
        results = [timed(way, data, model.manifest.image) for way in (whole, reduced)]
        one, other = (model.image_tower.features(pixels[None])[0] for pixels, _ in results)
        rows.append([milliseconds for _, milliseconds in results])
        cosines.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
        same += int(model.logits(Features(one, None)).argmax() == model.logits(Features(other, None)).argmax())
    return {
        "drawings": len(drawings),
        "cosine_least": round(min(cosines), 6),
        "cosine_mean": round(statistics.fmean(cosines), 6),
        "same_label_share": round(same / len(drawings), 4),
        **compared(rows),
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    for title, rows in (("Decode and pixel_values", figures["times"]), ("Changes", [figures["changes"]])):
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)
    console.print(figures["machine"])


def bench(
    drawings: Annotated[Path | None, typer.Option(help="Parquet file with a column of encoded images.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Number of drawings, chosen at random.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Timed decodes of each generated JPEG.")] = 9,
    output: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Compare decoding of JPEGs at full scale and at a reduced scale."""
    store = Store()
    model = Loader(store, Settings.model_validate({"intra_op_threads": 1})).load(TASK, store.manifest(TASK).version)
    height, width = model.manifest.image.output_size
    targets = {"clip 224x224": CLIP, f"{TASK} {height}x{width}": model.manifest.image}
    figures = {
        "pixels": f"{SIZE[0]}x{SIZE[1]}",
        "times": measure_times(targets, rounds),
        "changes": measure_changes(model, read_drawings(drawings, items)),
        "machine": f"{machine()}, libjpeg-turbo {features.version('libjpeg_turbo')}",
    }
    show(figures, Console())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(bench)
