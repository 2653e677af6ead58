"""Turn Debian's openclipart packages into parquet files for two tasks that share one partition of the drawings."""

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from examples.openclipart.cleaning import Split
from examples.openclipart.drawings import Drawing, read_drawing, without_duplicates

HERE = Path(__file__).parent
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
KEYWORD_COUNT = 100
# Test drawings kept in the repository for the demo.
HELD_OUT = {
    "apple.png": "food/fruit/apple.png",
    "penguin.png": "animals/birds/emperor_penguin_ralf_ste_01.png",
    "cello.png": "recreation/music/cello_ganson.png",
}
HELD_OUT_SIDE = 256


def prepare(
    source: Annotated[Path, typer.Option(help="Folder of the files of openclipart-png and openclipart-svg.")] = Path(
        "/usr/share/openclipart"
    ),
    output: Annotated[Path, typer.Option(help="Folder for category/ and keywords/.")] = HERE / "data",
    largest_side: Annotated[int, typer.Option(help="Largest side of a picture, in pixels.")] = 128,
) -> None:
    """Write category/ and keywords/ with {train,validation,test}.parquet each.

    Needs Debian's packages openclipart-png and openclipart-svg.
    """
    paths = sorted((source / "png").rglob("*.png"))
    if not paths:
        raise typer.BadParameter(f"no PNG files under {source}/png: install openclipart-png and openclipart-svg")
    read = partial(read_drawing, root=source, largest_side=largest_side)
    with ProcessPoolExecutor() as pool:
        done = pool.map(read, paths, chunksize=16)
        drawings = list(without_duplicates(track(done, "Reading drawings", total=len(paths))))
    keywords = frequent_keywords(drawings)
    for split in SPLITS:
        chosen = [drawing for drawing in drawings if drawing.split == split]
        write(output / "category" / f"{split}.parquet", [category_row(d) for d in chosen if d.category])
        tagged = [keyword_row(drawing, keywords) for drawing in chosen]
        write(output / "keywords" / f"{split}.parquet", [row for row in tagged if row["label"]])
    write_held_out(source, drawings, HERE / "held_out")
    report(drawings, output)


def write_held_out(source: Path, drawings: list[Drawing], folder: Path) -> None:
    """Write three test drawings, with their titles and categories, for the demo."""
    folder.mkdir(exist_ok=True)
    of_path = {str(drawing.path): drawing for drawing in drawings if drawing.split == "test"}
    items = []
    for name, path in HELD_OUT.items():
        drawing = of_path[path]
        (folder / name).write_bytes(read_drawing(source / "png" / path, source, HELD_OUT_SIDE).png)
        items.append({"image": name, "text": drawing.title, "task": "clipart-category", "label": drawing.category})
    (folder / "items.json").write_text(json.dumps(items, indent=2) + "\n")


def frequent_keywords(drawings: list[Drawing]) -> frozenset[str]:
    """The most frequent keywords of the training drawings."""
    counts = Counter(keyword for drawing in drawings if drawing.split == "train" for keyword in drawing.keywords)
    return frozenset(keyword for keyword, _ in counts.most_common(KEYWORD_COUNT))


def category_row(drawing: Drawing) -> dict[str, Any]:
    return {"image": drawing.png, "text": drawing.title, "label": drawing.category, "path": str(drawing.path)}


def keyword_row(drawing: Drawing, keywords: frozenset[str]) -> dict[str, Any]:
    text = ". ".join(part for part in (drawing.title, drawing.description) if part) or None
    labels = [keyword for keyword in drawing.keywords if keyword in keywords]
    return {"image": drawing.png, "text": text, "label": labels, "path": str(drawing.path)}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def report(drawings: list[Drawing], output: Path) -> None:
    """Print the number of drawings of each category in each split."""
    counts = Counter((drawing.category, drawing.split) for drawing in drawings)
    table = Table("category", *SPLITS, title=f"{len(drawings)} drawings in {output}")
    for category in sorted({category for category, _ in counts if category}):
        table.add_row(category, *(str(counts[category, split]) for split in SPLITS))
    for task in ("category", "keywords"):
        sizes = [str(pq.read_metadata(output / task / f"{split}.parquet").num_rows) for split in SPLITS]
        table.add_row(f"[bold]{task} task", *sizes)
    Console().print(table)


if __name__ == "__main__":
    typer.run(prepare)
