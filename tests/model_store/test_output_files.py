"""What commands write replaces nothing in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_store.output_files import OutputError, check_folder, check_output_file, check_output_folder


def test_a_new_file_and_a_device_are_written(tmp_path: Path) -> None:
    check_output_file(tmp_path / "card.md", force=False)
    check_output_file(Path("/dev/null"), force=False)


def test_a_file_that_exists_needs_force(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")

    with pytest.raises(OutputError, match=r"README.md exists; choose another name, or add --force to replace it"):
        check_output_file(tmp_path / "README.md", force=False)
    check_output_file(tmp_path / "README.md", force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_cannot_be_created_is_refused(tmp_path: Path, force: bool) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        check_output_file(tmp_path, force=force)
    with pytest.raises(OutputError, match=r"there is no folder .*none; create it"):
        check_output_file(tmp_path / "none" / "card.md", force=force)


def test_a_folder_with_files_needs_force(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("mine")

    with pytest.raises(OutputError, match=r"holds manifest.json; choose another folder with --output, or add --force"):
        check_output_folder(tmp_path, force=False)
    check_output_folder(tmp_path, force=True)
    check_output_folder(tmp_path / "new" / "export", force=False)


def test_only_the_files_that_are_written_count_if_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("mine")
    check_output_folder(tmp_path, force=False, names=("grid.json",))

    (tmp_path / "grid.json").write_text("mine")

    with pytest.raises(OutputError, match=r"holds grid.json"):
        check_output_folder(tmp_path, force=False, names=("grid.json",))


@pytest.mark.parametrize("path", ["README.md", "README.md/store", "README.md/a/b"])
def test_a_folder_cannot_be_in_a_file(tmp_path: Path, path: str) -> None:
    (tmp_path / "README.md").write_text("mine")

    with pytest.raises(OutputError, match=r"README.md is not a folder; name a folder with --publish"):
        check_folder(tmp_path / path, "name a folder with --publish")


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere

    with pytest.raises(OutputError, match="cannot be written to; choose another, or change its permissions"):
        check_folder(tmp_path / "store", "choose another")
