"""The small data sets: packages, the four sources on stand-ins for their packages, the rows of a set."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from examples.small_data import prepare
from examples.small_data.clipart import read_clipart
from examples.small_data.items import Item
from examples.small_data.packages import Package, PackageError, fetch, unpacked
from examples.small_data.sets import SETS, SmallSet, TooFewItemsError, choose_rows
from examples.small_data.stamps import read_stamps
from examples.small_data.starships import definitions, read_starships
from examples.small_data.units import read_units, unit_types
from training.config import load_config
from training.data.splits import load_data

PACKAGE = Package("stamps", "1:2.0-1", hashlib.sha256(b"a package\n").hexdigest())
FETCHES = '[ "$*" = "download stamps=1:2.0-1" ] && echo "a package" > "stamps_1%3a2.0-1_all.deb"'


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder that is the only one on PATH besides the shell's; a function that puts a command there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def draw(path: Path, colour: str = "red", size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, colour).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_package_is_fetched_once(commands, tmp_path):
    commands("apt-get", FETCHES)
    path = fetch(PACKAGE, tmp_path)
    commands("apt-get", "exit 1")

    assert fetch(PACKAGE, tmp_path) == path
    assert path.read_bytes() == b"a package\n"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'W: old list' >&2; echo 'E: Temporary failure resolving' >&2; exit 100", "Temporary failure resolving"),
        ("echo \"E: Version '2.0-1' for 'stamps' was not found\" >&2; exit 100", "was not found"),
        ("exit 3", "exit status 3"),
        (None, "no apt-get"),
    ],
)
def test_without_network_or_apt_the_error_says_where_to_put_the_file(commands, tmp_path, script, complaint):
    if script:
        commands("apt-get", script)

    with pytest.raises(PackageError, match=complaint) as error:
        fetch(PACKAGE, tmp_path)

    assert f"put {PACKAGE.file_name} into {tmp_path}" in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize("content", ["", "another package", "a package"], ids=["empty", "other", "cut"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_of_another_content_is_refused(commands, tmp_path, content, is_there):
    commands("apt-get", f"printf '{content}' > '{PACKAGE.file_name}'")
    if is_there:
        (tmp_path / PACKAGE.file_name).write_text(content)

    with pytest.raises(PackageError, match=f"SHA-256 .* not {PACKAGE.sha256}; delete it"):
        fetch(PACKAGE, tmp_path)

    assert (tmp_path / PACKAGE.file_name).exists() == is_there


def test_packages_are_unpacked_for_a_while(commands, tmp_path):
    commands("apt-get", FETCHES)
    commands("dpkg-deb", '[ "$1" = --extract ] && read -r line < "$2" && echo "$line" > "$3/content"')

    with unpacked([PACKAGE], tmp_path / "packages") as root:
        assert (root / "content").read_text() == "a package\n"

    assert [path.name for path in (tmp_path / "packages").iterdir()] == [PACKAGE.file_name]


def test_drawings_have_title_category_and_whether_the_backbone_saw_them(tmp_path):
    titles = {"food/apple.png": "Apple", "food/apple2.png": "apples 2", "food/x.png": None, "unsorted/cat.png": "Cat"}
    titles |= {"animals/horse.png": "Horse", "tools/same.png": "Hammer"}
    drawings = tmp_path / "usr/share/openclipart"
    for number, (name, title) in enumerate(titles.items()):
        draw(drawings / "png" / name, "black" if name in ("animals/horse.png", "tools/same.png") else f"#{number}0ff00")
        written = f"<metadata><dc:title>{title}</dc:title></metadata>" if title else ""
        write((drawings / "svg" / name).with_suffix(".svg"), f"<svg>{written}</svg>")

    read = {item.name: dict(item.fields) for item in read_clipart(tmp_path)}

    assert read == {
        "animals/horse.png": {"title": "Horse", "category": "animals", "backbone": "seen"},
        "food/apple.png": {"title": "Apple", "category": "food", "backbone": "held out"},
    }


def test_stamps_have_names_in_languages_and_the_category_of_their_folder(tmp_path):
    stamps = tmp_path / "usr/share/tuxpaint/stamps"
    texts = {"animals/birds/owl": "An owl.\nfr.utf8=Un hibou.\nsw.utf8=\n", "food/apple": "An apple.\n"}
    texts |= {"food/apple_again": "An APPLE.\n", "food/owl_mirror": "Another owl.\n", "food/blank": "\nfr.utf8=Rien.\n"}
    for number, (name, text) in enumerate(texts.items()):
        draw(stamps / f"{name}.png", f"#{number}00000", size=(300, 200))
        write(stamps / f"{name}.txt", text)
    draw(stamps / "food/no_text.png", "blue")

    owl, apple = read_stamps(tmp_path)

    assert (owl.fields["english"], owl.fields["category"]) == ("An owl.", "animals")
    assert owl.fields["any language"] in ("An owl.", "Un hibou.")
    assert dict(apple.fields) == {"english": "An apple.", "any language": "An apple.", "category": "food"}


STARSHIPS = """# A comment.
ship "Argosy"
	sprite "ship/argosy"
	attributes
		category "Light Freighter"
		weapon
			sprite "effect/blast"
	description `It is "fast".`
	description "	It is old."

ship "Argosy" "Argosy (Laser)"
	description "A variant."
outfit Cell
	category "Power"
	thumbnail "outfit/cell"
	description "A cell."
fleet "Traders"
	category "Nothing"
outfit "Bare"
	category "Power"
	description "Without a picture."
"""


def test_starships_have_a_picture_a_description_and_a_category(tmp_path):
    game = tmp_path / "usr/share/games/endless-sky"
    write(game / "data/ships.txt", STARSHIPS)
    draw(game / "images/ship/argosy+0.png")
    draw(game / "images/ship/argosy+1.png", "green")
    draw(game / "images/outfit/cell.png", "blue")

    argosy, cell = read_starships(tmp_path)

    assert dict(argosy.fields) == {
        "kind": "ship", "category": "Light Freighter", "description": 'It is "fast". It is old.'
    }  # fmt: skip
    assert argosy.picture != cell.picture
    assert (cell.name, cell.fields["category"]) == ("outfit Cell", "Power")


@pytest.mark.parametrize(
    "text", ["", '# ship "A"\n', 'fleet "A"\n\tcategory "Power"\n', 'ship "A" "B"\n\tdescription "A variant."\n']
)
def test_other_definitions_are_no_starships(text):
    assert definitions(text) == []


UNIT = """#define FOLDER
units/elves/#enddef
[unit_type]
    id=Archer
    race=elf  # of the woods
    image="{FOLDER}archer.png~RC(magenta>red)"
    alignment=neutral
    [attack]
        description=_"bow"
    [/attack]
    description= _ "They say ""no""
to orcs."
    [+defend]
        race=orc
    [/defend]
[/unit_type]
"""


def test_units_have_a_picture_a_description_a_race_and_an_alignment(tmp_path):
    core = tmp_path / "usr/share/games/wesnoth/1.16/data/core"
    for name, text in {"archer": UNIT, "lost": UNIT.replace("archer.png", "lost.png")}.items():
        write(core / f"units/elves/{name}.cfg", text)
    write(core / "units/fog.cfg", "[unit_type]\n    id=Fog\n[/unit_type]\n")
    draw(core / "images/units/elves/archer.png")

    (archer,) = read_units(tmp_path)

    assert archer.fields == {"race": "elf", "alignment": "neutral", "description": 'They say "no" to orcs.'}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[unit_type]\nrace=elf\n[/unit_type]\n[unit_type]\nrace=orc\n[/unit_type]",
            [{"race": "elf"}, {"race": "orc"}],
        ),
        ("[units]\n[unit_type]\nrace=elf\n[female]\nrace=orc\n[/female]\n[/unit_type]\n[/units]", [{"race": "elf"}]),
        ("#define A X\n[unit_type]\nrace=orc\n[/unit_type]\n#enddef\n", []),
        ("race=elf\n[race]\nrace=orc\n[/race]", []),
    ],
)
def test_only_the_keys_of_a_unit_itself_are_read(text, expected):
    assert list(unit_types(text)) == expected


def items_of(counts: dict[str, int]) -> list[Item]:
    """Items of each label."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        Item(
            f"{number}",
            b"%d" % number,
            {"text": f"text {number}", "label": label, "parity": "odd" if number % 2 else "even"},
        )
        for number, label in enumerate(labels)
    ]


@pytest.mark.parametrize(("no_picture", "no_text"), [(0, 0), (0.1, 0.3), (0.25, 0), (0.5, 0.5)])
def test_a_set_has_its_rows_and_holes_and_never_changes(no_picture, no_text):
    items = items_of({"a": 30, "b": 30})
    small_set = SmallSet("s", "units", "text", "label", 40, no_picture=no_picture, no_text=no_text)

    rows = choose_rows(small_set, items)

    assert len({row["name"] for row in rows}) == 40
    assert sum(row["image"] is None for row in rows) == 40 * no_picture
    assert sum(row["text"] is None for row in rows) == 40 * no_text
    assert not any(row["image"] is None and row["text"] is None for row in rows)
    assert choose_rows(small_set, items[::-1]) == rows
    assert all(row["text"] in (None, f"text {row['name']}") for row in rows)


@pytest.mark.parametrize(
    ("only", "rarest", "labels"),
    [
        ({}, 1, {"a", "b", "c"}),
        ({}, 10, {"a", "b"}),
        ({"label": ["a", "c"]}, 1, {"a", "c"}),
        ({"parity": ["even"]}, 10, {"a"}),
        ({"parity": ["odd"], "label": ["b"]}, 1, {"b"}),
    ],
)
def test_a_set_has_only_the_labels_that_it_asks_for(only, rarest, labels):
    items = items_of({"a": 20, "b": 12, "c": 4})
    allowed = sum(
        item.fields["label"] in labels and all(item.fields[key] in values for key, values in only.items())
        for item in items
    )

    rows = choose_rows(SmallSet("s", "units", "text", "label", allowed, only, rarest), items)

    assert {row["label"] for row in rows} == labels


def test_a_source_with_too_few_items_is_named():
    with pytest.raises(TooFewItemsError, match="s needs 5 items; units has 4"):
        choose_rows(SmallSet("s", "units", "text", "label", 5, rarest=1), items_of({"a": 2, "b": 2}))


def test_every_set_is_made_from_a_known_source():
    assert {small_set.source for small_set in SETS} == prepare.SOURCES.keys()


@pytest.fixture
def command(monkeypatch):
    """`prepare` with a small source in place of the four."""
    source = (
        (PACKAGE,),
        lambda root: [Item(n, (root / "png").read_bytes(), {"text": n, "label": n[0]}) for n in names],
    )
    names = [f"{label}{number}" for label in "xy" for number in range(20)]
    monkeypatch.setattr(prepare, "SOURCES", {"letters": source})
    monkeypatch.setattr(prepare, "SETS", (SmallSet("letters-30", "letters", "text", "label", 30, no_picture=0.2),))
    app = typer.Typer()
    app.command()(prepare.prepare)
    return app


def test_prepare_writes_data_that_training_reads(command, commands, tmp_path, monkeypatch):
    draw(tmp_path / "red.png")
    commands("apt-get", FETCHES)
    commands("dpkg-deb", f'/bin/cp "{tmp_path}/red.png" "$3/png"')

    result = CliRunner().invoke(command, [str(tmp_path / "sets")])

    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "sets/letters-30.parquet").column_names == ["name", "image", "text", "label"]
    monkeypatch.chdir(tmp_path / "sets")
    data = load_data(load_config(Path("letters-30.yaml")))
    assert (data.labels, sum(len(split.items) for split in data.splits().values())) == (("x", "y"), 30)
    assert sum(item.image is None for split in data.splits().values() for item in split.items) == 6


def test_prepare_without_network_ends_with_one_line(command, commands, tmp_path):
    commands("apt-get", "echo 'E: Failed to fetch' >&2; exit 100")

    result = CliRunner().invoke(command, [str(tmp_path / "sets")])

    assert result.exit_code == 1
    assert result.output.startswith("error: `apt-get download stamps=1:2.0-1` failed (E: Failed to fetch)")
    assert result.output.count("\n") == 1
