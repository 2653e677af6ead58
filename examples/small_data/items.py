"""What the sources have in common: items, and their pictures as small PNG files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from examples.openclipart.drawings import as_png, on_white

LARGEST_SIDE = 128  # pixels


@dataclass(frozen=True)
class Item:
    """A picture as PNG, and fields by name: texts, labels, and whatever a set may select by."""

    name: str  # unique in its source
    picture: bytes
    fields: Mapping[str, str]


def small_png(path: Path) -> bytes:
    """The first frame of a picture on white, at most LARGEST_SIDE pixels wide and high."""
    with Image.open(path) as source:
        image = on_white(source)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    return as_png(image)


def without_repetitions(items: Iterable[Item], text: str) -> Iterator[Item]:
    """Each picture and each text once, so that no test item repeats an item of train."""
    seen: set[bytes | str] = set()
    for item in items:
        keys = {item.picture, item.fields[text].casefold()}
        if seen.isdisjoint(keys):
            seen |= keys
            yield item
