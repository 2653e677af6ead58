"""Make ten small data sets from Debian packages, each with the YAML file of its task."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from rich.console import Console
from rich.table import Table

from examples.small_data import packages
from examples.small_data.clipart import read_clipart
from examples.small_data.items import Item
from examples.small_data.packages import Package, PackageError, unpacked
from examples.small_data.sets import SETS, TooFewItemsError, choose_rows
from examples.small_data.stamps import read_stamps
from examples.small_data.starships import read_starships
from examples.small_data.units import read_units

BACKBONE = Path(__file__).parents[1] / "openclipart" / "backbone"
SOURCES: dict[str, tuple[tuple[Package, ...], Callable[[Path], Iterable[Item]]]] = {
    "clipart": ((packages.OPENCLIPART_PNG, packages.OPENCLIPART_SVG), read_clipart),
    "stamps": ((packages.TUXPAINT_STAMPS,), read_stamps),
    "starships": ((packages.ENDLESS_SKY,), read_starships),
    "units": ((packages.WESNOTH,), read_units),
}
SCHEMA = pa.schema({"name": pa.string(), "image": pa.binary(), "text": pa.string(), "label": pa.string()})


def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder for NAME.parquet and NAME.yaml of each set, and packages/.")],
) -> None:
    """Write the ten data sets. Fetches 530 MB with apt-get, unless FOLDER/packages has the files."""
    try:
        table = write_sets(folder)
    except (PackageError, TooFewItemsError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    Console().print(table)


def write_sets(folder: Path) -> Table:
    """Write every set into the folder, and count what each has."""
    items = {name: read_source(name, folder / "packages") for name in SOURCES}
    table = Table("set", "rows", "labels", "largest", "smallest", "no picture", "no text")
    for small_set in SETS:
        rows = choose_rows(small_set, items[small_set.source])
        write(folder, small_set.name, rows)
        table.add_row(small_set.name, *map(str, counts_of(rows)))
    return table


def read_source(name: str, downloads: Path) -> list[Item]:
    needed, read = SOURCES[name]
    with unpacked(needed, downloads) as root:
        return list(read(root))


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows and the configuration of their task, whose data path is relative to the folder."""
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / f"{name}.parquet")
    task = {"task": name, "problem": "single_label", "backbone": str(BACKBONE), "data": {"train": f"{name}.parquet"}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")


def counts_of(rows: list[dict[str, Any]]) -> tuple[int, ...]:
    """Rows, labels, rows of the largest and of the smallest label, rows without picture, rows without text."""
    sizes = Counter(row["label"] for row in rows).values()
    holes = (sum(row[column] is None for row in rows) for column in ("image", "text"))
    return len(rows), len(sizes), max(sizes), min(sizes), *holes


if __name__ == "__main__":
    typer.run(prepare)
