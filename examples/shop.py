"""Generate the data of a second-hand shop: photos, and a csv of photo, caption and kind with empty cells and mistakes.

docs/tutorial.md uses it as sample data: `python -m examples.shop FOLDER`.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

ITEMS, NO_PHOTO, NO_CAPTION = 300, 0.3, 0.2  # number of items, and the shares without a photo or caption
PIXELS, FINER = 96, 3  # drawn larger by this factor, then reduced, which smooths edges
OWN = ""  # the color of the item; other colors are fixed
COLORS = ["#c62828", "#ef6c00", "#f9a825", "#2e7d32", "#1565c0", "#6a1b9a", "#5d4037", "#455a64"]
PAPER = ["#ffffff", "#fafafa", "#f3e5f5", "#e3f2fd", "#fff8e1", "#e8f5e9"]
DARK, GLASS, WOOD, LEAF = "#212121", "#e1f5fe", "#4e342e", "#558b2f"
PRAISE = ["", "", "nice ", "big ", "small ", "lovely ", "good ", "cheap ", "blue ", "red "]
SAYS_NOTHING = ["see photo", "as new", "collect in person", "not needed any more", "make me an offer"]

Shape = tuple[str, tuple[int, ...], str]  # method of ImageDraw, coordinates in percent, color
WHEELS: list[Shape] = [
    ("ellipse", (14, 60, 38, 84), DARK),
    ("ellipse", (21, 67, 31, 77), "#bdbdbd"),
    ("ellipse", (62, 60, 86, 84), DARK),
    ("ellipse", (69, 67, 79, 77), "#bdbdbd"),
]
GOODS: list[tuple[str, list[str], list[Shape]]] = [
    (
        "fruit",
        ["apple", "cooking apple", "basket of apples"],
        [
            ("ellipse", (18, 30, 60, 88), OWN),
            ("ellipse", (40, 30, 82, 88), OWN),
            ("line", (50, 36, 56, 12), WOOD),
            ("ellipse", (56, 12, 76, 24), LEAF),
        ],
    ),
    (
        "fruit",
        ["cherry", "cherries", "sweet cherries"],
        [
            ("line", (32, 64, 58, 12), LEAF),
            ("line", (70, 66, 58, 12), LEAF),
            ("ellipse", (14, 54, 50, 90), OWN),
            ("ellipse", (52, 56, 88, 92), OWN),
        ],
    ),
    (
        "fruit",
        ["banana", "bananas", "ripe bananas"],
        [("polygon", (8, 26, 14, 22, 30, 48, 54, 58, 88, 50, 94, 56, 78, 76, 50, 82, 24, 68, 12, 46), "#fbc02d")],
    ),
    (
        "vehicle",
        ["car", "family car", "used car", "automobile"],
        [
            ("polygon", (22, 48, 36, 26, 68, 26, 82, 48), OWN),
            ("rectangle", (6, 46, 94, 70), OWN),
            ("polygon", (32, 46, 40, 31, 50, 31, 50, 46), GLASS),
            ("polygon", (54, 46, 54, 31, 64, 31, 72, 46), GLASS),
            *WHEELS,
        ],
    ),
    (
        "vehicle",
        ["bus", "school bus", "old bus"],
        [
            ("rectangle", (4, 20, 96, 72), OWN),
            *(("rectangle", (left, 28, left + 15, 46), GLASS) for left in (10, 32, 54, 76)),
            *WHEELS,
        ],
    ),
    (
        "vehicle",
        ["truck", "lorry", "delivery truck"],
        [
            ("rectangle", (4, 22, 62, 70), OWN),
            ("polygon", (66, 70, 66, 36, 82, 36, 96, 54, 96, 70), "#546e7a"),
            ("polygon", (72, 42, 80, 42, 88, 54, 72, 54), GLASS),
            *WHEELS,
        ],
    ),
    (
        "clothing",
        ["shirt", "t-shirt", "cotton shirt", "blouse"],
        [("polygon", (34, 16, 50, 24, 66, 16, 96, 34, 84, 52, 72, 44, 72, 90, 28, 90, 28, 44, 16, 52, 4, 34), OWN)],
    ),
    (
        "clothing",
        ["trousers", "pair of trousers", "pants"],
        [
            ("polygon", (28, 8, 72, 8, 82, 94, 58, 94, 50, 38, 42, 94, 18, 94), OWN),
            ("rectangle", (28, 8, 72, 15), WOOD),
        ],
    ),
    (
        "clothing",
        ["hat", "straw hat", "winter hat"],
        [
            ("ellipse", (4, 58, 96, 82), OWN),
            ("ellipse", (28, 18, 72, 60), OWN),
            ("rectangle", (28, 38, 72, 70), OWN),
            ("rectangle", (28, 54, 72, 63), WOOD),
        ],
    ),
    (
        "furniture",
        ["chair", "kitchen chair", "wooden chair"],
        [
            ("rectangle", (26, 6, 34, 94), OWN),
            ("rectangle", (34, 10, 38, 44), WOOD),
            ("rectangle", (26, 50, 76, 60), OWN),
            ("rectangle", (68, 58, 76, 94), OWN),
        ],
    ),
    (
        "furniture",
        ["table", "dining table", "desk"],
        [
            ("rectangle", (4, 36, 96, 46), OWN),
            ("rectangle", (12, 46, 20, 90), OWN),
            ("rectangle", (80, 46, 88, 90), OWN),
        ],
    ),
    (
        "furniture",
        ["bed", "double bed", "wooden bed"],
        [
            ("rectangle", (4, 26, 12, 88), WOOD),
            ("rectangle", (88, 46, 96, 88), WOOD),
            ("rectangle", (12, 56, 88, 76), OWN),
            ("rectangle", (16, 44, 40, 58), "#b0bec5"),
        ],
    ),
]


def main(folder: Path) -> None:
    """Write `photos/` and `shop.csv`; the result is always the same.

    An existing `shop.csv` stays, because it may have been corrected.
    """
    if (folder / "shop.csv").exists():
        print(f"{folder / 'shop.csv'} exists, so nothing is written; remove it to start again")
        return
    chance = random.Random(0)  # noqa: S311 - no secret
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = [sold(number, folder, chance) for number in range(1, ITEMS + 1)]
    rows[16] = ["photos/017.jpeg", "school bus", "vehicle"]  # no such file
    rows[80] = ["", " ", "fruit"]
    rows[203] = [*rows[203][:2], ""]
    with (folder / "shop.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["photo", "caption", "kind"], *rows])
    print(f"{folder / 'shop.csv'}: {len(rows)} items of {len({kind for kind, *_ in GOODS})} kinds")


def sold(number: int, folder: Path, chance: random.Random) -> list[str]:
    """The row of one item; draws its photo if it has one."""
    kind, names, shapes = GOODS[number % len(GOODS)]
    photo, caption = f"photos/{number:03}.png", chance.choice(PRAISE) + chance.choice(names)
    drawn, lot = draw(shapes, chance), chance.random()
    if lot < NO_PHOTO:
        return ["", caption, kind]
    drawn.save(folder / photo)
    if lot < NO_PHOTO + NO_CAPTION:
        return [photo, "", kind]
    return [photo, chance.choice(SAYS_NOTHING) if chance.random() < 0.2 else caption, kind]


def draw(shapes: list[Shape], chance: random.Random) -> Image.Image:
    """A picture of one item, with a random color, position, size and angle."""
    edge, color, paper = PIXELS * FINER, chance.choice(COLORS), chance.choice(PAPER)
    scale = edge / 100 * chance.uniform(0.6, 0.9)
    left, top = (chance.uniform(0, edge - 100 * scale) for _ in "xy")
    picture = Image.new("RGB", (edge, edge), paper)
    pen = ImageDraw.Draw(picture)
    for method, percent, fixed in shapes:
        places = [value * scale + (top if index % 2 else left) for index, value in enumerate(percent)]
        width = {"width": round(4 * scale)} if method == "line" else {}
        getattr(pen, method)(places, fill=fixed or color, **width)
    turned = picture.rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=paper)
    if chance.random() < 0.5:
        turned = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return turned.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
