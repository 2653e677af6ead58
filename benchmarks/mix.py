"""The recorded mix of requests: the same bytes for every server.

    python -m benchmarks.mix examples/openclipart/data/category/test.parquet    # writes mix.json again

A third of the items has only an image, a third only a text, and a third both, in a fixed order. Texts are titles of
drawings. Pictures are the held-out drawings, each rotated, cropped and enlarged in a different way.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from PIL import Image
from tokenizers import Tokenizer

from model_store import Pattern

HELD_OUT = Path(__file__).parents[1] / "examples" / "openclipart" / "held_out"
TOKENIZER = Path(__file__).parents[1] / "examples" / "openclipart" / "backbone" / "tokenizer.json"
SIZE = (640, 480)  # pixels, width and height
TEXT_TOKENS = 12  # of the text whose latency is compared, start and end tokens included
_MIX = Path(__file__).with_name("mix.json")
_ITEMS = 120


@dataclass(frozen=True)
class Item:
    """The item of one request."""

    image: bytes | None
    text: str | None

    @property
    def pattern(self) -> Pattern:
        """The presence pattern of the item."""
        if self.image is None:
            return Pattern.TEXT
        return Pattern.IMAGE if self.text is None else Pattern.BOTH

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the item in JSON; an absent modality has no field."""
        found = {} if self.image is None else {"image": base64.b64encode(self.image).decode()}
        return found if self.text is None else {**found, "text": self.text}

    @property
    def body(self) -> bytes:
        """The JSON body, the same for every server."""
        return json.dumps(self.fields).encode()


@dataclass(frozen=True)
class Mix:
    """The items of the mix in order, and the single text whose latency is compared."""

    items: tuple[Item, ...]
    text: Item

    def of(self, pattern: Pattern) -> tuple[Item, ...]:
        """The items of one presence pattern."""
        return tuple(item for item in self.items if item.pattern is pattern)


def read_mix() -> Mix:
    """The recorded mix, with its pictures generated again."""
    recorded = json.loads(_MIX.read_text(encoding="utf-8"))
    items = tuple(
        Item(None if entry["picture"] is None else jpeg(entry["picture"]), entry["text"]) for entry in recorded["items"]
    )
    return Mix(items, Item(None, recorded["text"]))


@cache
def jpeg(number: int) -> bytes:
    """Picture `number`, of SIZE: a part of a drawing, rotated by up to 30 degrees and enlarged."""
    rng = np.random.default_rng(number)
    drawings = sorted(HELD_OUT.glob("*.png"))
    with Image.open(drawings[number % len(drawings)]) as opened:
        drawing = opened.convert("RGB").rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC, True, fillcolor="white")
    width = int(min(drawing.width, drawing.height * SIZE[0] / SIZE[1]) * rng.uniform(0.6, 1))
    height = width * SIZE[1] // SIZE[0]
    left, top = (int(rng.integers(0, rest + 1)) for rest in (drawing.width - width, drawing.height - height))
    file = BytesIO()
    part = drawing.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    part.save(file, "JPEG", quality=85)
    return file.getvalue()


def record(parquet: Annotated[Path, typer.Argument(help="Drawings with a column `text`, their titles.")]) -> None:
    """Choose the titles and the order at random, and write mix.json."""
    rng = np.random.default_rng(0)
    titles = sorted({title for title in pq.read_table(parquet)["text"].to_pylist() if title})
    drawn = iter(rng.permutation(titles).tolist())
    items: list[dict[str, str | int | None]] = []
    for _ in range(_ITEMS // 6):  # every six items hold two of each pattern, so that any section of the mix is balanced
        for pattern in rng.permutation([*Pattern] * 2):
            picture = None if pattern == Pattern.TEXT else len(items)
            items.append({"text": None if pattern == Pattern.IMAGE else next(drawn), "picture": picture})
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    text = next(title for title in drawn if len(tokenizer.encode(title).ids) == TEXT_TOKENS)
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    _MIX.write_text(f'{{"text": {json.dumps(text)}, "items": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    typer.run(record)
