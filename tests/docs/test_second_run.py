"""The commands of the documents, given twice: the second time changes no file.

`fit --publish`: tests/training/test_cli.py and tests/integration; manifests: tests/deploy/test_kubernetes.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from examples import shop
from model_store import Store
from tests.docs import shell
from tests.docs.documents import ROOT
from tests.docs.test_blocks import BLOCKS
from tests.support.snapshot import contents
from tests.support.tiny import Shelf

# Commands of our own that are given twice below, with the exit status of the second time.
AGAIN = {
    "mora-store list --store store": 0,
    "mora-store show fruit --store store": 0,
    "mora-store verify --store store": 0,
    "mora-store sbom fruit --store store": 0,
    "mora-store card fruit --store store --output card.md": 1,  # exists
    "mora-store activate fruit 1 --store store": 0,
    "mora-store withdraw fruit --store store": 1,  # is withdrawn already
    "mora-store seed other --store store": 0,
    "mora-store seed other --store new/store": 0,
    "mora-store push fruit share --store store": 0,
    "mora-store pull other:tags --store new/store --activate": 0,
    "mora-store gc --store store": 0,
    "mora-store prune fruit --keep 1 --store store": 0,
    "mora-store keygen new": 1,  # a key is never replaced
    "mora-store sign fruit --version 1 --key key --store store": 0,
    "mora-serve classify --text red --task fruit --store store": 0,
    "mora-serve classify items.csv --store store --task fruit --output labelled.csv": 1,  # exists
    "mora-serve classify items.csv --store store --task fruit --output labelled.jsonl --force": 0,
    "mora-serve embed items.csv vectors.parquet --store finding": 1,  # exists
}
NEW_STEPS = {"mora-store rollback", "mora-train publish", "mora-serve hash-key"}  # as docs/reference.md says
ELSEWHERE = {
    f"mora-train {name}" for name in ("fit", "import", "data", "show", "compare", "evaluate", "analyse", "export")
}
ELSEWHERE |= {"mora-store follow"}  # runs until it is stopped: tests/model_store/test_transfer_commands.py
ELSEWHERE |= {"mora-serve run", "mora-serve bulk"}  # reads only; needs Ray: tests/service/labelling/test_bulk.py


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """`given(command)`: its result in a folder with three stores, a key and items."""
    monkeypatch.chdir(tmp_path)
    for folder, tasks in (("store", ["fruit", "fruit"]), ("other", ["fruit", "tags"]), ("finding", ["search"])):
        for number, task in enumerate(tasks):
            Shelf(Store(tmp_path / folder)).publish(task, seed=number)
    Path("items.csv").write_text("text\nred apple\ngreen\n")

    def give(command: str) -> Result:
        program, *arguments = command.split()
        return CliRunner().invoke(shell.APPS[program], arguments)

    assert give("mora-store keygen key").exit_code == 0
    return give


@pytest.mark.parametrize(("command", "status"), AGAIN.items(), ids=AGAIN)
@pytest.mark.slow
def test_a_command_given_again_changes_no_file(given, tmp_path, command, status):
    first = given(command)
    assert first.exit_code == 0, first.output
    before = contents(tmp_path)

    again = given(command)

    assert again.exit_code == status, again.output
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["mora-store rollback fruit --store store"])
def test_a_step_that_is_taken_again_is_found(given, tmp_path, command):
    """The comparison can fail."""
    Shelf(Store(tmp_path / "store")).publish("fruit", seed=7)
    assert given(command).exit_code == 0
    before = contents(tmp_path)

    assert given(command).exit_code == 0

    assert contents(tmp_path) != before


@pytest.mark.slow
def test_the_sample_data_keeps_what_the_reader_corrected(tmp_path):
    shop.main(tmp_path)
    table = tmp_path / "shop.csv"
    table.write_text(table.read_text().replace("017.jpeg", "017.png"))
    before = contents(tmp_path)

    shop.main(tmp_path)

    assert contents(tmp_path) == before


def test_every_command_of_the_documents_is_given_twice_or_named():
    lines = [words for block in BLOCKS if block.language == "sh" for words in shell.commands(block.text)]
    lines += filter(None, [shell.within_image(words) for words in lines])
    named = {" ".join(words[:2]) for words in lines if words[0] in shell.GROUPS and len(words) > 1}
    given = {" ".join(command.split()[:2]) for command in AGAIN}

    assert len(named) > 12
    assert named - given - NEW_STEPS - ELSEWHERE == set()


def test_the_page_names_the_steps_that_are_taken_again():
    section = (ROOT / "docs/reference.md").read_text().split("## Commands given again\n")[1].split("\n## ")[0]

    assert set(re.findall(r"^\| `(mora-[a-z]+ [a-z-]+)` \|", section, re.MULTILINE)) == NEW_STEPS
