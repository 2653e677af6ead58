"""Make the emoji data set from npm packages: a picture and a text that names a change, and the changed picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from examples.emoji.changes import UnknownNameError, changes_of, codes_of, find_concepts, find_families
from examples.emoji.packages import NAMES, read_json
from examples.emoji.pictures import TARGET_VENDOR, VENDORS, Pictures, draw, read_vendor, without_repetitions
from examples.emoji.splits import ROWS_OF_TARGET, SPLITS, Row, Split, choose_rows, split_concepts
from examples.small_data.packages import PackageError

HERE = Path(__file__).parent
SCHEMA = pa.schema(
    {
        "image": pa.binary(),
        "text": pa.string(),
        "target_image": pa.binary(),
        "change": pa.string(),
        "vendor": pa.string(),
        "emoji": pa.string(),
        "target_emoji": pa.string(),
    }
)


def prepare(
    folder: Annotated[Path, typer.Argument(help="Folder for {train,validation,test}.parquet and packages/.")] = HERE
    / "data",
) -> None:
    """Write the three splits. Fetches 7 MB with npm, unless FOLDER/packages has the files."""
    try:
        if find_spec("resvg_py") is None:
            raise PackageError("drawing needs resvg-py: pip install --no-deps resvg-py")
        tables = write_splits(folder)
    except (PackageError, UnknownNameError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    for table in tables:
        Console().print(table)


def write_splits(folder: Path) -> tuple[Table, Table]:
    """Write the splits; two tables count the pictures of each vendor, and the rows of each kind of change."""
    downloads = folder / "packages"
    downloads.mkdir(parents=True, exist_ok=True)
    names = {
        codes_of(emoji): about["name"] for emoji, about in read_json(NAMES, "data-by-emoji.json", downloads).items()
    }
    vendors = [read_vendor(name, downloads) for name in VENDORS]
    families = find_families(names, {code for vendor in vendors for code in vendor.icon_of})
    concepts = find_concepts(families)
    pictures = {vendor.name: draw(vendor, sorted(concepts)) for vendor in vendors}
    pictures[TARGET_VENDOR] = without_repetitions(pictures[TARGET_VENDOR])

    kinds: dict[str, set[str]] = defaultdict(set)
    for family in families:
        kinds[concepts[next(iter(family.members.values()))]].add(family.kind)
    split_of = split_concepts(kinds)
    rows = {}
    for split in SPLITS:
        changes = [change for change in changes_of(families) if split_of[concepts[change.target]] == split]
        rows[split] = choose_rows(changes, pictures, ROWS_OF_TARGET[split])
        pq.write_table(pa.Table.from_pylist(rows[split], SCHEMA), folder / f"{split}.parquet", compression="zstd")
    return picture_table(pictures), row_table(rows, kinds, split_of)


def picture_table(pictures: Mapping[str, Pictures]) -> Table:
    table = Table("vendor", "pictures", "no such icon", "cannot be drawn or blank", "same picture as another")
    for vendor, of_vendor in pictures.items():
        counts = (of_vendor.png, of_vendor.missing, of_vendor.blank, of_vendor.repeated)
        table.add_row(vendor, *(str(len(codes)) for codes in counts))
    return table


def row_table(
    rows: Mapping[Split, Sequence[Row]], kinds: Mapping[str, set[str]], split_of: Mapping[str, Split]
) -> Table:
    """Rows and concepts of each kind of change in each split."""
    table = Table("change", *(f"{split}: {counted}" for split in SPLITS for counted in ("rows", "concepts")))
    for kind in sorted(set().union(*kinds.values())):
        counts = []
        for split in SPLITS:
            counts.append(sum(row["change"] == kind for row in rows[split]))
            counts.append(sum(kind in kinds[concept] for concept in kinds if split_of[concept] == split))
        table.add_row(kind, *map(str, counts))
    totals = [[len(rows[split]), list(split_of.values()).count(split)] for split in SPLITS]
    table.add_row("all", *(str(total) for pair in totals for total in pair))
    return table


if __name__ == "__main__":
    typer.run(prepare)
