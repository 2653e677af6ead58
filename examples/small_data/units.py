"""Wesnoth's units: picture, description, race and alignment."""

import re
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from examples.small_data.items import Item, small_png, without_repetitions

DEFINITION = re.compile(r"^[ \t]*#define (\w+)([^\n]*)\n(.*?)#enddef", re.DOTALL | re.MULTILINE)
TAG_OR_KEY = re.compile(
    r"""^[ \t]*(?:
        \[(?P<closes>/?)\+?(?P<tag>\w+)\]
        | (?P<key>\w+)[ \t]*=[ \t]*_?[ \t]*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^\#\n]*))
    )""",
    re.MULTILINE | re.VERBOSE,
)
NEEDED = ("image", "description", "race", "alignment")


def read_units(root: Path) -> Iterator[Item]:
    """The units of the core game that have a picture, a description, a race and an alignment."""
    core = root / "usr/share/games/wesnoth/1.16/data/core"
    return without_repetitions(read_each(core), text="description")


def read_each(core: Path) -> Iterator[Item]:
    for path in track(sorted((core / "units").rglob("*.cfg")), "Reading units"):
        for number, unit in enumerate(unit_types(path.read_text(encoding="utf-8"))):
            fields = {key: unit[key] for key in NEEDED if unit.get(key)}
            picture = core / "images" / fields.pop("image", "").partition("~")[0]  # ~FUNCTION() changes colours
            if len(fields) == len(NEEDED) - 1 and picture.is_file():
                yield Item(f"{path.relative_to(core / 'units')} {number}", small_png(picture), fields)


def unit_types(text: str) -> Iterator[dict[str, str]]:
    """The keys of each `[unit_type]`, without those of tags inside it. Macros without arguments are replaced."""
    for name, arguments, value in DEFINITION.findall(text):
        text = text if arguments.strip() else text.replace(f"{{{name}}}", value.strip())
    depth, unit = 0, {}
    for match in TAG_OR_KEY.finditer(DEFINITION.sub("", text)):
        if match["closes"]:
            depth -= 1
            if match["tag"] == "unit_type":
                yield unit
        elif match["tag"]:
            depth = 1 if match["tag"] == "unit_type" else depth + 1
            unit = {} if match["tag"] == "unit_type" else unit
        elif depth == 1:
            value = match["plain"] if match["quoted"] is None else match["quoted"].replace('""', '"')
            unit.setdefault(match["key"], " ".join(value.split()))
