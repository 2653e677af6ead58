"""The pictures of emoji by four vendors, at the size that the backbone sees."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from examples.emoji.packages import FLUENT, NOTO, OPENMOJI, TWEMOJI, read_json
from examples.openclipart.drawings import as_png
from examples.openclipart.icons import Source, render, svg_of

VENDORS = {"noto": NOTO, "twemoji": TWEMOJI, "openmoji": OPENMOJI, "fluent": FLUENT}
TARGET_VENDOR = "noto"
SIDE = 64  # pixels, of the image processor of examples/openclipart/backbone


@dataclass(frozen=True)
class Vendor:
    """The icon set of one vendor: the content of its package."""

    name: str
    icons: Mapping[str, Any]  # icons.json
    icon_of: Mapping[str, str]  # chars.json: name of the icon by code points


@dataclass(frozen=True)
class Pictures:
    """A vendor's pictures as PNG by code points, and the emoji that have none."""

    png: Mapping[str, bytes]
    missing: Collection[str] = ()  # the vendor has no such icon
    blank: Collection[str] = ()  # the icon cannot be drawn, or is white on white
    repeated: Collection[str] = ()  # the same picture as that of another emoji


def read_vendor(name: str, downloads: Path) -> Vendor:
    package = VENDORS[name]
    return Vendor(name, read_json(package, "icons.json", downloads), read_json(package, "chars.json", downloads))


def draw(vendor: Vendor, codes: Collection[str]) -> Pictures:
    """Draw these emoji."""
    known = [code for code in codes if vendor.icon_of.get(code) in vendor.icons["icons"]]
    png: dict[str, bytes] = {}
    for code in track(known, f"Drawing {vendor.name}"):
        icon = vendor.icon_of[code]
        picture = render(Source(vendor.name, icon, "", svg=svg_of(vendor.icons["icons"][icon], vendor.icons)), SIDE)
        if picture:
            png[code] = as_png(picture)
    missing, blank = set(codes) - set(known), set(known) - png.keys()
    return Pictures(png, missing, blank)


def without_repetitions(pictures: Pictures) -> Pictures:
    """Each picture once, so that no candidate equals another: that of the shortest code points is kept."""
    first: dict[bytes, str] = {}
    for code in sorted(pictures.png, key=lambda code: (len(code), code)):
        first.setdefault(pictures.png[code], code)
    kept = {code: png for png, code in first.items()}
    return Pictures(kept, pictures.missing, pictures.blank, pictures.png.keys() - kept.keys())
