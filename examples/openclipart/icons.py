"""Emoji and icons with their captions, from installed packages."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from examples.openclipart.cleaning import words_of_file_name
from examples.openclipart.drawings import on_white

LARGEST_SIDE = 128
_BLANK = 4  # standard deviation of the pixels

# npm: @iconify-json/<name>. All under licences that allow derived works (see the model card).
ICON_SETS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fxemoji", "emojione", "emojione-v1",
    "streamline-emojis", "flat-color-icons", "game-icons", "streamline-freehand-color", "fluent-color",
    "icon-park", "meteocons", "streamline-flex-color", "streamline-kameleon-color", "streamline-plump-color",
    "streamline-ultimate-color", "carbon", "fluent", "healthicons", "hugeicons", "iconoir", "lucide", "maki", "mdi",
    "medical-icon", "ph", "solar", "stash", "tabler", "temaki",
)  # fmt: skip
# Sets that draw each icon in many styles: the ending of the names of the one style that is used.
STYLE = {"fluent": "-24-regular", "solar": "-linear", "streamline-kameleon-color": "-duo"}
OTHER_STYLE = re.compile(r"-(thin|light|bold|fill(ed)?|duotone|solid|negative|outline(-24px)?|24px|static-fill|flat)$")
# Debian icon themes: the folders below /usr/share/icons whose files are large enough.
ICON_FOLDERS = (
    "gnome/256x256", "oxygen/base/128x128", "oxygen/base/64x64", "mate/256x256", "Faenza/*/96", "Tango/scalable",
    "Moka/256x256", "elementary-xfce/*/48", "Nuovo/scalable", "yasis/scalable", "gartoon/scalable",
)  # fmt: skip
SKIN_OR_HAIR = re.compile(r"(skin-tone|-(light|medium|dark)(-|$)|-(medium-light|medium-dark)$)")
CONTEXT_WORDS = {
    "apps": "computer application icon",
    "actions": "computer icon, action",
    "mimetypes": "computer icon, file type",
    "places": "computer icon, folder",
    "devices": "computer hardware icon",
    "status": "computer icon, status",
    "emotes": "smiley face",
}


@dataclass(frozen=True)
class Source:
    """A file (or SVG text) to render, its caption, and its context."""

    name: str
    caption: str
    context: str
    path: Path | None = None
    svg: str | None = None


def set_sources(node_modules: Path) -> Iterator[Source]:
    """Icons of the installed @iconify-json packages, in one style and without the variants by skin tone."""
    for name in ICON_SETS:
        folder = node_modules / "@iconify-json" / name
        icons = json.loads((folder / "icons.json").read_text())
        metadata = folder / "metadata.json"
        categories = json.loads(metadata.read_text()).get("categories", {}) if metadata.exists() else {}
        context = {icon: category.lower() for category, members in categories.items() for icon in members}
        for icon, drawing in icons["icons"].items():
            caption = icon.removesuffix(STYLE.get(name, ""))
            other_style = OTHER_STYLE.search(icon) if name not in STYLE else caption == icon
            if not (other_style or SKIN_OR_HAIR.search(icon) or drawing.get("hidden")):
                words = re.sub(r"(-\d\d?)+$", "", caption).replace("-", " ")
                yield Source(name, words, context.get(icon, "icon"), svg=svg_of(drawing, icons))


def svg_of(drawing: Mapping[str, Any], icons: Mapping[str, Any]) -> str:
    """The SVG of one icon of a set; `icons` is the content of its icons.json, which has the size of most icons."""
    width, height = (drawing.get(side) or icons.get(side, 16) for side in ("width", "height"))
    box = f"{drawing.get('left', 0)} {drawing.get('top', 0)} {width} {height}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
    return f'{svg}<g color="black">{drawing["body"]}</g></svg>'


def theme_sources(icons: Path) -> Iterator[Source]:
    """Icons of Debian's icon themes, without links, which would repeat other files."""
    for pattern in ICON_FOLDERS:
        for folder in sorted(icons.glob(pattern)):
            for path in sorted([*folder.rglob("*.png"), *folder.rglob("*.svg")]):
                caption = words_of_file_name(path.stem, None)
                if caption and not path.is_symlink() and "symbolic" not in path.name:
                    context = next(
                        (CONTEXT_WORDS[part] for part in path.parts if part in CONTEXT_WORDS), "computer icon"
                    )
                    yield Source(pattern.split("/")[0], caption, context, path=path)


def render(source: Source, side: int = LARGEST_SIDE) -> Image.Image | None:
    """The picture on white, at most `side` pixels; None if it cannot be rendered or is blank."""
    import resvg_py

    try:
        if source.svg:
            image = rasterised(resvg_py.svg_to_bytes(svg_string=source.svg, width=side, skip_system_fonts=True))
        elif source.path and source.path.suffix == ".svg":
            image = rasterised(resvg_py.svg_to_bytes(svg_path=str(source.path), width=side, skip_system_fonts=True))
        else:
            image = on_white(Image.open(source.path or ""))
    except (ValueError, OSError):
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return None if np.asarray(image).std() < _BLANK else image


def rasterised(png: bytes) -> Image.Image:
    return on_white(Image.open(io.BytesIO(bytes(png))))
