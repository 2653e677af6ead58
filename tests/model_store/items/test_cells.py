"""Empty cells, and cells of an image column."""

from __future__ import annotations

import os
import unicodedata
from base64 import b64encode
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.items.cells import CellError, NoFileError, TooLargeError, existing, image_of, is_missing, load_image
from model_store.items.invisible import is_blank
from tests.support.tiny import PICTURE

SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    return tmp_path


@pytest.mark.parametrize("cell", ["a.png", " a.png\n", {"path": "a.png"}, {"bytes": b"", "path": "a.png"}])
def test_a_path_leads_to_a_file_of_the_folder(folder, cell):
    image = image_of(cell, folder)

    assert image == folder / "a.png"
    assert load_image(image, max_bytes=7) == b"picture"


@pytest.mark.parametrize("cell", [b"bytes", {"bytes": b"bytes", "path": "a.png"}])
def test_bytes_are_the_picture(folder, cell):
    assert image_of(cell, folder) == b"bytes"


@pytest.mark.parametrize(
    "prefix", ["data:image/png;base64,", " DATA:;base64,", "data:application/octet-stream;base64,\n"]
)
def test_a_data_uri_is_the_picture(folder, prefix):
    assert image_of(prefix + b64encode(PICTURE).decode(), folder) == PICTURE


@pytest.mark.parametrize("cell", ["data:text/plain,a red apple", "data:,", "data:image/png;base64,???", "data:a.png"])
def test_a_data_uri_without_a_picture_is_refused(folder, cell):
    with pytest.raises(CellError, match="is a data: URI that holds no picture"):
        image_of(cell, folder)


@pytest.mark.parametrize(
    "cell", [None, "", "\u3000 ", b"", float("nan"), {}, {"bytes": None, "path": " "}, {"src": None}]
)
def test_an_empty_cell_has_no_picture(folder, cell):
    assert image_of(cell, folder) is None


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("b.png", "does not exist"),
        ("a.png/b.png", "does not exist"),
        ("a\0.png", "does not exist"),
        ("x" * 5000, "does not exist"),
        (".", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("https://e.org/a.png", "is a URL"),
        (" HTTP://e.org/a.png", "is a URL"),
        (b64encode(PICTURE).decode(), "is base64; write data:image/png;base64, before it"),
    ],
)
def test_a_path_that_leads_to_no_regular_file_is_refused(folder, cell, message):
    os.mkfifo(folder / "pipe")

    with pytest.raises(NoFileError, match=message):
        image_of(cell, folder)


@pytest.mark.parametrize("cell", [5, ["a.png"], {"path": 5}])
def test_a_cell_of_another_type_is_refused(folder, cell):
    with pytest.raises(CellError, match="neither a path nor the bytes of a picture"):
        image_of(cell, folder)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ({"src": "a.png"}, "'src'"),
        ({"data": b"bytes", "h": 9}, "'data', 'h'"),
        ({"bytes": None, "path": "", "url": "https://e.org/a.png"}, "'url'"),
        ({"b\x1b": 1, "c": 1, "d": 1, "e": 1}, r"'b\\x1b', 'c', 'd'"),
    ],
)
def test_an_object_whose_picture_has_another_name_is_refused(folder, cell, names):
    with pytest.raises(CellError, match=f"is an object with {names}; it needs bytes or path"):
        image_of(cell, folder)


@pytest.mark.parametrize("name", [" a.png", "a.png ", " b/a.png", "data:x/a.png", "data:,a.png", "http:/a.png"])
def test_a_path_leads_to_the_file_of_that_very_name(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"other")

    assert image_of(name, folder) == folder / name


def test_a_file_name_that_is_not_utf8_leads_to_its_file(folder):
    name = os.fsdecode(b"\xff.png")
    (folder / name).write_bytes(b"")

    assert image_of(name, folder) == folder / name


NAMES = ["Bl\u00fcte/caf\u00e9.png", "\uac00/\u304c.png", "\u1e69\u0307.png"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("on_disk", "in_cell"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_path_in_another_normal_form_leads_to_its_file(tmp_path, name, on_disk, in_cell):
    file = tmp_path / unicodedata.normalize(on_disk, name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"")

    assert image_of(unicodedata.normalize(in_cell, name), tmp_path) == file


def test_each_part_of_a_path_may_have_another_normal_form(tmp_path):
    file = tmp_path / "caf\u00e9" / "e\u0301.png"
    file.parent.mkdir()
    file.write_bytes(b"")

    assert image_of({"path": "cafe\u0301/\u00e9.png"}, tmp_path) == file
    assert existing(tmp_path / "cafe\u0301") == file.parent


@pytest.mark.parametrize("cell", ["a\u200b.png", "\ufeffa.png", "\u202aa.png\u202c"])
def test_a_path_with_invisible_characters_leads_to_its_file(folder, cell):
    assert image_of(cell, folder) == folder / "a.png"


def test_a_file_of_that_very_name_comes_first(tmp_path):
    for name in ("caf\u00e9.png", "cafe\u0301.png"):
        (tmp_path / name).write_bytes(b"")

        assert image_of(name, tmp_path) == tmp_path / name


@pytest.mark.parametrize("name", ["caf\u00e9.png", "caf\u00e9/caf\u00e9.png", "\u00e9" * 300])
def test_a_path_to_nothing_stays_as_it_is(tmp_path, name):
    assert existing(tmp_path / name) == tmp_path / name


def test_a_picture_larger_than_allowed_is_not_loaded(folder):
    for image in (folder / "a.png", b"picture"):
        with pytest.raises(TooLargeError, match="may have 6 bytes"):
            load_image(image, max_bytes=6)


def test_a_deleted_file_cannot_be_loaded(folder):
    with pytest.raises(NoFileError, match="cannot be read"):
        load_image(folder / "gone.png", max_bytes=6)


@pytest.mark.parametrize(
    "cell",
    [
        *(None, "", b"", " \t\r\n", "\u00a0\u2003\u3000\u2028", "\u200b", "\ufeff\u2060", "\u3164\u200d "),
        *(float("nan"), np.float32("nan"), Decimal("NaN"), np.datetime64("NaT"), pd.NaT, pd.NA),
    ],
)
def test_null_nan_empty_and_blank_cells_are_missing(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", [0, 0.0, False, b" ", "NA", "nan", "null", "\0", -1, [], {}, [None]])
def test_a_value_that_looks_like_nothing_is_a_value(cell):
    assert not is_missing(cell)


@given(st.text(st.sampled_from(SPACES)), st.characters().filter(lambda letter: not is_blank(letter)))
def test_a_letter_between_white_space_is_a_value(spaces, letter):
    assert is_missing(spaces)
    assert not is_missing(spaces + letter + spaces)
