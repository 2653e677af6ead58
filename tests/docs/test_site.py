"""The site is built without a warning, has what the code has, and asks nothing of other hosts."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from docs.generation.models import comments
from model_store.manifest import Manifest
from tests.docs.documents import ROOT
from tests.docs.shell import GROUPS
from training.config import DataConfig, TaskConfig

FETCHED = re.compile(
    r"""(?:<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=|url\(|@import )["']?((?:https?:)?//[^"'>)]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def words(page: Path) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_every_page_of_the_reference_has_what_the_code_has(site):
    page = {name: words(site / f"reference/{name}/index.html") for name in ("commands", "http")}
    page |= {name: words(site / f"reference/{name}/index.html") for name in ("configuration", "manifest")}

    commands = {f"{program} {name}": it for program, group in GROUPS.items() for name, it in group.commands.items()}
    options = {option for it in commands.values() for parameter in it.params for option in parameter.opts}
    named = commands.keys() | {option for option in options if option.startswith("--")}
    assert [name for name in named if name not in page["commands"]] == []
    assert "POST /classify/batch" in page["http"]
    assert "JPEG, PNG, WebP, AVIF or GIF" in page["http"]
    assert [name for name in TaskConfig.model_fields if name not in page["configuration"]] == []
    assert "hub id or a local directory" in page["configuration"]
    assert [name for name in Manifest.model_fields if name not in page["manifest"]] == []


def test_the_meaning_of_a_field_stands_beside_it():
    assert comments(DataConfig)["validation"] == "like train; left out: a random share of train"
    assert "problem" not in comments(TaskConfig)  # although the next field has a comment


@pytest.mark.slow
def test_nothing_comes_from_another_host(site):
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    found = {(path.name, url) for path in pages for url in FETCHED.findall(path.read_text(encoding="utf-8"))}

    assert len(pages) > 30
    assert {url for _, url in found} == set()
    assert [path for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()] == [], (
        "its script is fetched"
    )
    assert FETCHED.findall('<link rel="x" href="https://fonts.example/css">') == ["https://fonts.example/css"]


def test_no_path_of_this_machine_is_on_a_page(site):
    assert [path for path in site.rglob("*.html") if str(ROOT) in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("text", ["[gone](gone.md)", "[gone](#gone)", "[absolute](/docs/README.md)"])
def test_a_dead_link_stops_it(tmp_path, text):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Here\n\n{text}\n")
    changed = {"docs_dir": str(tmp_path / "docs"), "site_dir": str(tmp_path / "site"), "nav": ["index.md"], "hooks": []}

    with pytest.raises(Abort):
        build(load_config(str(ROOT / "mkdocs.yml"), **changed))
