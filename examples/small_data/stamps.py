"""Tux Paint's stamps: the category of each is its folder, and a text file beside it has its name in many languages."""

import random
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from examples.small_data.items import Item, small_png, without_repetitions


def read_stamps(root: Path) -> Iterator[Item]:
    """The stamps that are PNG files; a mirrored variant of another stamp is left out."""
    stamps = root / "usr/share/tuxpaint/stamps"
    paths = [path for path in sorted(stamps.rglob("*.png")) if not path.stem.endswith("_mirror")]
    return without_repetitions(read_each(paths, stamps), text="english")


def read_each(paths: list[Path], stamps: Path) -> Iterator[Item]:
    for path in track(paths, "Reading stamps"):
        names = names_by_language(path.with_suffix(".txt"))
        if names.get("en"):
            name = path.relative_to(stamps)
            translation = random.Random(str(name)).choice(sorted(names.values()))  # noqa: S311
            fields = {"english": names["en"], "any language": translation, "category": name.parts[0]}
            yield Item(str(name), small_png(path), fields)


def names_by_language(path: Path) -> dict[str, str]:
    """The English name is the first line; a line `fr.utf8=...` is a translation. A stamp may have no such file."""
    if not path.exists():
        return {}
    english, *others = path.read_text(encoding="utf-8").splitlines() or [""]
    translations = (line.partition(".utf8=")[::2] for line in others)
    return {"en": english.strip()} | {language: name.strip() for language, name in translations if name.strip()}
