"""Emoji, icons and stamps with their captions, from installed packages."""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from examples.openclipart.cleaning import clean_text, words_of_file_name
from examples.openclipart.drawings import as_png, on_white

LARGEST_SIDE = 128

# npm: @iconify-json/<name>. All under licences that allow derived works (see the model card).
EMOJI_SETS = (
    "noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "fxemoji", "emojione", "emojione-v1",
    "streamline-emojis", "flat-color-icons", "game-icons", "streamline-freehand-color",
)  # fmt: skip
# Debian icon themes: the folders below /usr/share/icons whose files are large enough.
ICON_FOLDERS = (
    "gnome/256x256", "oxygen/base/128x128", "oxygen/base/64x64", "mate/256x256", "Faenza/*/96", "Tango/scalable",
    "Moka/256x256", "elementary-xfce/*/48", "Nuovo/scalable", "yasis/scalable", "gartoon/scalable",
)  # fmt: skip
STAMPS = Path("/usr/share/tuxpaint/stamps")
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


def emoji_sources(node_modules: Path) -> Iterator[Source]:
    """Icons of the installed @iconify-json packages, without the variants by skin tone."""
    for name in EMOJI_SETS:
        folder = node_modules / "@iconify-json" / name
        icons = json.loads((folder / "icons.json").read_text())
        metadata = folder / "metadata.json"
        categories = json.loads(metadata.read_text()).get("categories", {}) if metadata.exists() else {}
        context = {icon: category.lower() for category, members in categories.items() for icon in members}
        for icon, drawing in icons["icons"].items():
            if SKIN_OR_HAIR.search(icon):
                continue
            svg = svg_of(drawing, icons)
            yield Source(name, icon.replace("-", " "), context.get(icon, "icon"), svg=svg)


def svg_of(drawing: Mapping[str, Any], icons: Mapping[str, Any]) -> str:
    """The SVG of one icon of a set; `icons` is the content of its icons.json, which has the size of most icons."""
    width, height = (drawing.get(side) or icons.get(side, 16) for side in ("width", "height"))
    box = f"{drawing.get('left', 0)} {drawing.get('top', 0)} {width} {height}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}">'
    return f'{svg}<g color="black">{drawing["body"]}</g></svg>'


def icon_sources(icons: Path) -> Iterator[Source]:
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


def stamp_sources(stamps: Path) -> Iterator[Source]:
    """Tux Paint's stamps; the text file beside each is its caption, and its folders are its context."""
    for path in sorted([*stamps.rglob("*.png"), *stamps.rglob("*.svg")]):
        text = path.with_suffix(".txt")
        caption = clean_text(text.read_text(errors="replace").split("\n")[0]) if text.exists() else None
        if caption and not path.stem.endswith("_mirror"):
            yield Source("tuxpaint", caption, " ".join(path.relative_to(stamps).parts[:-1]), path=path)


def render(source: Source, side: int = LARGEST_SIDE) -> bytes | None:
    """The picture on white as PNG, at most `side` pixels; None if it cannot be rendered or is blank."""
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
    return None if np.asarray(image).std() < 4 else as_png(image)


def rasterised(png: bytes) -> Image.Image:
    return on_white(Image.open(io.BytesIO(bytes(png))))
