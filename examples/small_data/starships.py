"""Endless Sky's ships and outfits: picture, description and category."""

import re
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from examples.small_data.items import Item, small_png, without_repetitions

TOKEN = re.compile(r'"([^"]*)"|`([^`]*)`|(\S+)')
FRAME = r"([-~+=^][0-9]+)?\.png"  # an animated picture has a file for each frame


def read_starships(root: Path) -> Iterator[Item]:
    """The ships and outfits that have a picture, a description and a category."""
    game = root / "usr/share/games/endless-sky"
    return without_repetitions(read_each(game), text="description")


def read_each(game: Path) -> Iterator[Item]:
    pictures = pictures_by_name(game / "images")
    for path in track(sorted((game / "data").glob("*.txt")), "Reading starships"):
        for kind, name, fields in definitions(path.read_text(encoding="utf-8")):
            picture = pictures.get(fields.pop("picture", ""))
            if picture and fields.keys() == {"category", "description"}:
                yield Item(f"{kind} {name}", small_png(picture), fields | {"kind": kind})


def pictures_by_name(images: Path) -> dict[str, Path]:
    """The first frame of each picture, by the name that the data files use, such as `ship/argosy`."""
    pictures: dict[str, Path] = {}
    for path in sorted(images.rglob("*.png")):
        pictures.setdefault(re.sub(f"{FRAME}$", "", path.relative_to(images).as_posix()), path)
    return pictures


def definitions(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Kind, name and fields of each ship and outfit; lines indented by tabs belong to the line above them."""
    found: list[tuple[str, str, dict[str, str]]] = []
    fields: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        key, *values = ("".join(groups) for groups in TOKEN.findall(line))
        if not line.startswith(("\t", "#")):
            fields = {}  # of something else, unless this line begins a ship or an outfit
            if key in ("ship", "outfit") and len(values) == 1:  # a ship with two names is a variant
                found.append((key, values[0], fields))
        elif key == "category":
            fields["category"] = values[0]
        elif line.startswith(("\tsprite ", "\tthumbnail ")):  # deeper ones are of projectiles
            fields["picture"] = values[0]
        elif key == "description":
            fields["description"] = f"{fields.get('description', '')} {values[0].strip()}".strip()
    return found
