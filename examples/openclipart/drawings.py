"""The drawings of Debian's openclipart packages: pictures, cleaned metadata, categories and splits."""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from examples.openclipart.cleaning import (
    Split,
    clean_description,
    clean_keywords,
    clean_title,
    split_key,
    split_of,
)

CATEGORY_OF_FOLDER = {
    "animals": "animals",
    "buildings": "buildings",
    "computer": "computers and electronics",
    "decorations": "patterns and decorations",
    "special": "patterns and decorations",  # holds patterns and gradients
    "education": "office and education",
    "office": "office and education",
    "electronics": "computers and electronics",
    "food": "food",
    "geography": "geography and science",
    "science": "geography and science",  # both hold astronomy
    "people": "people",
    "plants": "plants",
    "recreation": "recreation",
    "shapes": "shapes",
    "signs_and_symbols": "signs and symbols",
    "tools": "tools",
    "transportation": "transportation",
}
Image.MAX_IMAGE_PIXELS = None  # some drawings of this trusted package are 15,000 pixels wide

MOST_PER_KEY = 25  # 1,375 of the 8,121 drawings are stars that differ only in a number


@dataclass(frozen=True)
class Drawing:
    """One picture with its metadata; `png` is composited on white."""

    path: Path
    png: bytes
    pixels_digest: str
    title: str | None
    description: str | None
    keywords: list[str]
    category: str | None
    key: str

    @property
    def split(self) -> Split:
        return split_of(self.key)


def on_white(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparency shown white."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def read_drawing(png_path: Path, root: Path, largest_side: int) -> Drawing:
    """Read a picture and the RDF of the SVG it was rendered from."""
    relative = png_path.relative_to(root / "png")
    fields = rdf_fields((root / "svg" / relative.with_suffix(".svg")).read_text(errors="replace"))
    creator = fields["creator"]
    title = clean_title(fields["title"], relative.stem, creator)
    with Image.open(png_path) as source:
        image = on_white(source)
    image.thumbnail((largest_side, largest_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return Drawing(
        path=relative,
        png=as_png(image),
        pixels_digest=hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest(),
        title=title,
        description=clean_description(fields["description"], title),
        keywords=clean_keywords((fields["keywords"] or "").split("\n"), creator),
        category=CATEGORY_OF_FOLDER.get(relative.parts[0]),
        key=split_key(title, relative.stem),
    )


def rdf_fields(svg: str) -> dict[str, str | None]:
    """Title, description, creator and keywords (one a line) of an SVG; many of these files are not well-formed XML."""
    metadata = re.search(r"<metadata.*?</metadata>", svg, re.DOTALL)
    text = metadata.group(0) if metadata else ""

    def first(pattern: str) -> str | None:
        found = re.search(pattern, text, re.DOTALL)
        return found.group(1) if found else None

    return {
        "title": first(r"<dc:title>(.*?)</dc:title>"),
        "description": first(r"<dc:description>(.*?)</dc:description>"),
        "creator": first(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>"),
        "keywords": "\n".join(
            " ".join(item.split()) for item in re.findall(r"<rdf:li>(.*?)</rdf:li>", text, re.DOTALL)
        ),
    }


def without_duplicates(drawings: Iterable[Drawing]) -> Iterator[Drawing]:
    """Each picture once, in path order with uncategorised folders last, and at most MOST_PER_KEY of one key."""
    seen: set[str] = set()
    per_key: Counter[str] = Counter()
    for drawing in sorted(drawings, key=lambda d: (d.category is None, d.path)):
        if drawing.pixels_digest in seen or per_key[drawing.key] >= MOST_PER_KEY:
            continue
        seen.add(drawing.pixels_digest)
        per_key[drawing.key] += 1
        yield drawing
