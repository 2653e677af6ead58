"""The emoji data set: packages, families and concepts, splits and rows, the command on stand-ins for its packages."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import sys
import tarfile
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from examples.emoji import baselines, prepare
from examples.emoji.changes import (
    TONES,
    Change,
    UnknownNameError,
    changes_of,
    codes_of,
    find_concepts,
    find_families,
    toned,
)
from examples.emoji.families import FAMILIES, Family
from examples.emoji.packages import NpmPackage, read_json
from examples.emoji.pictures import SIDE, TARGET_VENDOR, VENDORS, Pictures, Vendor, draw, without_repetitions
from examples.emoji.splits import SPLITS, choose_rows, in_turns, split_concepts
from examples.small_data.packages import PackageError
from model_store import Problem
from training.config import load_config

EXAMPLES = Path(prepare.__file__).parents[1]
RUNNING, GUARD, COOK, PERSON = "1f3c3", "1f482", "1f9d1-200d-1f373", "1f9d1"
BY_CODES = {
    RUNNING: "person running",
    f"{RUNNING}-200d-2640": "woman running",
    f"{RUNNING}-200d-2642": "man running",
    f"{RUNNING}-200d-27a1": "person running facing right",
    f"{RUNNING}-200d-2640-200d-27a1": "woman running facing right",
    f"{RUNNING}-200d-2642-200d-27a1": "man running facing right",
    COOK: "cook",
    "1f468-200d-1f373": "man cook",
    "1f469-200d-1f373": "woman cook",
    "1f468": "man",
    "1f469": "woman",
    PERSON: "person",
    **{f"{head}-200d-1f9b0": f"{head} red hair" for head in ("1f468", "1f469", PERSON)},
    "1f600": "an emoji without changes",
}


def names_of_all_families() -> dict[str, str]:
    """Names by code points; the emoji of families.py have code points of their own here."""
    by_names = dict.fromkeys(name for family in FAMILIES for name in family.members.values())
    return BY_CODES | {f"{0xF0000 + number:x}": name for number, name in enumerate(by_names)}


NAMES = names_of_all_families()
DRAWN = [*NAMES, *(toned(code, tone) for code in BY_CODES for tone in TONES)]


def app(command) -> typer.Typer:
    made = typer.Typer()
    made.command()(command)
    return made


def archive_of(files: dict[str, object]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()


def put_package(folder: Path, name: str, files: dict[str, object]) -> NpmPackage:
    data = archive_of(files)
    package = NpmPackage(name, "1.0", hashlib.sha256(data).hexdigest())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / package.file_name).write_bytes(data)
    return package


def icon_set(codes: list[str], shade: int) -> dict[str, object]:
    """The files of an icon package, whose icons are squares of different colours."""
    icons = {
        f"icon-{code}": {"body": f'<rect fill="#{n * 37 % 4096:03x}{shade:03x}"/>'} for n, code in enumerate(codes)
    }
    return {"icons.json": {"width": 16, "height": 16, "icons": icons}, "chars.json": {c: f"icon-{c}" for c in codes}}


@pytest.fixture
def resvg(monkeypatch):
    """A stand-in for resvg-py, which draws a square of the colour of the icon's first fill."""

    def svg_to_bytes(svg_string: str, width: int, skip_system_fonts: bool) -> bytes:
        (colour,) = re.findall(r'fill="(#[0-9a-f]{6})"', svg_string)
        image = Image.new("RGB", (width, width), "white")
        image.paste(colour, (width // 4, width // 4, width // 2, width // 2))
        written = io.BytesIO()
        image.save(written, "PNG")
        return written.getvalue()

    module = ModuleType("resvg_py")
    module.svg_to_bytes = svg_to_bytes
    module.__spec__ = ModuleSpec("resvg_py", None)
    monkeypatch.setitem(sys.modules, "resvg_py", module)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with packages/, as `prepare` leaves it."""
    downloads = tmp_path / "data" / "packages"
    emoji = {"".join(chr(int(c, 16)) for c in code.split("-")): {"name": name} for code, name in NAMES.items()}
    monkeypatch.setattr(prepare, "NAMES", put_package(downloads, "unicode-emoji-json", {"data-by-emoji.json": emoji}))
    for shade, vendor in enumerate(VENDORS):
        package = put_package(downloads, f"@iconify-json/{vendor}", icon_set(DRAWN, shade))
        monkeypatch.setitem(VENDORS, vendor, package)
    return downloads.parent


def test_an_archive_is_packed_by_npm_once(tmp_path, monkeypatch):
    data = archive_of({"icons.json": {"prefix": "noto"}})
    (tmp_path / "source.tgz").write_bytes(data)
    package = NpmPackage("@iconify-json/noto", "1.2", hashlib.sha256(data).hexdigest())
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$*" = "pack --silent @iconify-json/noto@1.2" ] && '
                   f'/bin/cp {tmp_path}/source.tgz iconify-json-noto-1.2.tgz\n')  # fmt: skip
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    downloads = tmp_path / "packages"
    downloads.mkdir()

    assert read_json(package, "icons.json", downloads) == {"prefix": "noto"}
    npm.unlink()
    assert read_json(package, "icons.json", downloads) == {"prefix": "noto"}


def test_without_npm_the_error_says_where_to_put_the_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PackageError, match=f"no npm: .* put iconify-json-noto-1.2.tgz into {tmp_path}"):
        read_json(NpmPackage("@iconify-json/noto", "1.2", "0"), "icons.json", tmp_path)


def test_a_package_without_the_file_is_named(tmp_path):
    package = put_package(tmp_path, "some-package", {"other.json": {}})

    with pytest.raises(PackageError, match=r"some-package-1.0.tgz has no readable package/icons.json: check"):
        read_json(package, "icons.json", tmp_path)


def test_code_points_are_written_without_the_variation_selector():
    assert codes_of("🏃🏿\u200d♀️") == "1f3c3-1f3ff-200d-2640"
    assert toned(f"{RUNNING}-200d-2640", "dark") == "1f3c3-1f3ff-200d-2640"
    assert toned(RUNNING, "light") == "1f3c3-1f3fb"


def changes_to(code: str) -> set[tuple[str, str, str]]:
    families = find_families(NAMES, set(DRAWN))
    return {(change.kind, change.query, change.text) for change in changes_of(families) if change.target == code}


def test_a_change_is_of_one_thing():
    runs = "1f3c3-1f3ff-200d-2640"
    tones = {toned(f"{RUNNING}-200d-2640", tone) for tone in TONES} - {runs}

    assert changes_to(runs) == {
        ("gender", "1f3c3-1f3ff", "as a woman"),
        ("gender", "1f3c3-1f3ff-200d-2642", "as a woman"),
        ("direction", "1f3c3-1f3ff-200d-2640-200d-27a1", "facing left"),
        *(("skin tone", query, "with dark skin") for query in {*tones, f"{RUNNING}-200d-2640"}),
    }


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("1f468-200d-1f373", ("gender", COOK, "as a man")),
        (COOK, ("gender", "1f469-200d-1f373", "as a person")),
        ("1f469-200d-1f9b0", ("hair", "1f469", "with red hair")),
        ("1f469", ("hair", "1f469-200d-1f9b0", "with plain hair")),
    ],
)
def test_professions_and_hair_change(target, change):
    assert change in changes_to(target)


def test_names_tell_what_code_points_do_not():
    code_of = {name: code for code, name in NAMES.items()}

    assert ("colour", code_of["red heart"], "in blue") in changes_to(code_of["blue heart"])
    assert ("time", code_of["one o’clock"], "half an hour later") in changes_to(code_of["one-thirty"])  # noqa: RUF001
    assert ("cat", code_of["crying face"], "as a cat") in changes_to(code_of["crying cat"])


def test_emoji_without_a_picture_have_no_change():
    families = find_families(NAMES, {RUNNING, f"{RUNNING}-200d-2640", "1f600"})

    assert [(family.kind, set(family.members.values())) for family in families] == [
        ("gender", {RUNNING, f"{RUNNING}-200d-2640"})
    ]


def test_a_name_that_unicode_lacks_is_an_error():
    with pytest.raises(UnknownNameError, match=r"no emoji has the name 'boy'; correct examples/emoji/families.py"):
        find_families({code: name for code, name in NAMES.items() if name != "boy"}, set())


def test_a_concept_holds_all_that_changes_lead_to():
    concepts = find_concepts(find_families(NAMES, set(DRAWN)))
    running = {code for code in DRAWN if code.startswith(RUNNING)}

    assert {code for code, concept in concepts.items() if concept == RUNNING} == running
    assert {concepts["1f468"], concepts["1f469"], concepts[PERSON]} == {"1f468", "1f469", PERSON}
    assert concepts["1f469-1f3fb-200d-1f9b0"] == "1f469"
    assert find_concepts([Family("x", {"a": "3", "b": "22"}), Family("y", {"a": "1", "b": "22"})]) == dict.fromkeys(
        ["1", "22", "3"], "1"
    )


def test_each_text_of_a_family_asks_for_another_emoji():
    for family in FAMILIES:
        assert len(set(family.members.values())) == len(family.members) > 1


def test_all_splits_have_each_kind_of_three_concepts():
    kinds = {str(number): {"skin tone"} for number in range(50)}
    kinds |= {f"h{number}": {"hair", "skin tone"} for number in range(3)} | {"x": {"once"}}

    splits = split_concepts(kinds)

    assert {splits[f"h{number}"] for number in range(3)} == set(SPLITS)
    assert Counter(splits[str(number)] for number in range(50)) == {"train": 29, "validation": 6, "test": 15}
    assert splits["x"] == "train"
    assert split_concepts(dict(reversed(kinds.items()))) == splits


def change(kind: str, query: str, target: str) -> Change:
    return Change(kind, query, f"as {target}", target)


def pictures_of(**codes: str) -> dict[str, Pictures]:
    return {vendor: Pictures({c: f"{vendor} {c}".encode() for c in all_.split()}) for vendor, all_ in codes.items()}


def test_rows_go_from_another_vendor_to_the_vendor_of_the_targets():
    pictures = pictures_of(noto="a b", twemoji="a b", openmoji="a")

    rows = choose_rows([change("size", "a", "b"), change("size", "b", "a"), change("size", "a", "z")], pictures, 6)

    assert {(row["image"], row["text"], row["target_image"]) for row in rows} == {
        (b"twemoji a", "as b", b"noto b"),
        (b"openmoji a", "as b", b"noto b"),
        (b"twemoji b", "as a", b"noto a"),
    }
    assert len(rows) == 3
    assert {(row["vendor"], row["change"], row["emoji"], row["target_emoji"]) for row in rows} >= {
        ("openmoji", "size", "\n", "\x0b")
    }


def test_kinds_take_turns_and_targets_have_so_many_rows():
    changes = [change("often", str(number), "a") for number in range(20)] + [change("rare", "99", "a")]
    pictures = pictures_of(noto="a", twemoji=" ".join(c.query for c in changes))

    assert Counter(row["change"] for row in choose_rows(changes, pictures, 2)) == {"often": 1, "rare": 1}
    assert Counter(row["change"] for row in choose_rows(changes, pictures, 6)) == {"often": 5, "rare": 1}
    assert choose_rows(changes, pictures, 6) == choose_rows(changes, pictures, 6)


def test_turns_keep_every_query():
    queries = [(change(kind, str(number), "a"), "twemoji") for number, kind in enumerate("xxyz")]

    turns = in_turns(queries, random.Random(0))  # noqa: S311

    assert sorted(query.query for query, _ in turns) == ["0", "1", "2", "3"]
    assert {query.kind for query, _ in turns[:3]} == {"x", "y", "z"}


@pytest.mark.usefixtures("resvg")
def test_missing_blank_and_repeated_pictures_are_counted():
    files = icon_set(["a", "b", "cc", "d"], 1)
    body = {"a": "#ff0000", "b": "#ffffff", "cc": "#ff0000", "d": "#00ff00"}
    icons = {f"icon-{code}": {"body": f'<rect fill="{colour}"/>'} for code, colour in body.items()}
    vendor = Vendor("noto", files["icons.json"] | {"icons": icons}, files["chars.json"])

    drawn = draw(vendor, ["a", "b", "cc", "d", "e"])
    once = without_repetitions(drawn)

    assert (set(drawn.png), drawn.missing, drawn.blank) == ({"a", "cc", "d"}, {"e"}, {"b"})
    assert (set(once.png), once.repeated) == ({"a", "d"}, {"cc"})
    assert Image.open(io.BytesIO(drawn.png["a"])).size == (SIDE, SIDE)


@pytest.mark.usefixtures("resvg")
def test_the_command_writes_splits_that_share_no_concept(folder):
    done = CliRunner().invoke(app(prepare.prepare), [str(folder)], env={"COLUMNS": "200"})

    assert done.exit_code == 0, done.output
    rows = {split: pq.read_table(folder / f"{split}.parquet").to_pylist() for split in SPLITS}
    concepts = find_concepts(find_families(NAMES, set(DRAWN)))
    of_split = {split: {concepts[codes_of(row["target_emoji"])] for row in rows[split]} for split in SPLITS}
    assert set.union(*of_split.values()) == set(concepts.values())
    assert sum(map(len, of_split.values())) == len(set(concepts.values()))
    for split in SPLITS:
        assert {concepts[codes_of(row["emoji"])] for row in rows[split]} <= of_split[split]
        assert all(row["vendor"] != TARGET_VENDOR and row["image"] != row["target_image"] for row in rows[split])
    for split in ("validation", "test"):
        variants = {code for code, concept in concepts.items() if concept in of_split[split]}
        assert sorted(codes_of(row["target_emoji"]) for row in rows[split]) == sorted(variants)
    assert re.search(rf"all .* {len(rows['train'])} .* {len(rows['test'])} ", done.output)


@pytest.mark.parametrize("fault", ["no renderer", "broken package"])
def test_the_command_says_what_is_wrong_and_the_cure(folder, monkeypatch, request, fault):
    if fault == "no renderer":
        monkeypatch.setitem(sys.modules, "resvg_py", None)
        complaint = "error: drawing needs resvg-py: pip install --no-deps resvg-py"
    else:
        request.getfixturevalue("resvg")
        path = folder / "packages" / VENDORS["noto"].file_name
        path.write_bytes(b"")
        complaint = f"error: {path} has the SHA-256 "

    done = CliRunner().invoke(app(prepare.prepare), [str(folder)])

    assert done.exit_code == 1
    assert complaint in done.output
    assert not (folder / "test.parquet").exists()


def test_the_configuration_names_the_columns_and_files_of_the_command():
    config = load_config(EXAMPLES / "emoji" / "changes.yaml")
    data = config.data

    assert (config.problem, data.target_text) == (Problem.RETRIEVAL, None)
    assert {data.image, data.text, data.target_image} <= set(prepare.SCHEMA.names)
    files = {split: EXAMPLES / "emoji" / "data" / f"{split}.parquet" for split in SPLITS}
    assert {split: Path(getattr(data, split)).resolve() for split in SPLITS} == files
    assert Path(config.backbone).resolve() == EXAMPLES / "openclipart" / "backbone"


def test_pictures_have_the_size_that_the_backbone_sees():
    processor = json.loads((EXAMPLES / "openclipart" / "backbone" / "preprocessor_config.json").read_text())

    assert processor["size"] == {"height": SIDE, "width": SIDE}


def test_ranks_start_at_one_and_equal_scores_share_theirs():
    queries = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    targets = np.array([[1, 0], [1, 0], [0.5, 0]], dtype=np.float32)

    assert baselines.ranks_of(queries, targets).tolist() == [1.5, 2, 3]


def test_a_query_with_the_picture_of_its_target_finds_it():
    rows = []
    for colour in ("red", "green", "blue"):
        written = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), colour).save(written, "PNG")
        rows.append({"image": written.getvalue(), "text": colour, "target_image": written.getvalue()})

    recalls = baselines.recalls_of(rows, EXAMPLES / "openclipart" / "backbone")

    assert recalls["picture alone"] == [1, 1, 1]
    assert recalls["chance"] == [pytest.approx(1 / 3), 1, 1]
    assert recalls.keys() == {"chance", "picture alone", "text alone", "sum of both"}


def test_baselines_without_data_say_how_to_make_it(tmp_path):
    done = CliRunner().invoke(app(baselines.baselines), [str(tmp_path)], env={"COLUMNS": "300"})

    assert done.exit_code == 2
    assert "run `python -m examples.emoji.prepare" in done.output
