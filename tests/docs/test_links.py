"""Every link of a document leads somewhere; nothing is asked of the network."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from tests.docs.documents import DOCUMENTS, ROOT, anchors, links, spans

MADE_FOLDERS = {"build", "data", "my-shop", "runs"}  # by commands that documents show
TOP = {path.name for path in ROOT.iterdir() if path.is_dir()} - MADE_FOLDERS
FILE = re.compile(r"[\w./-]+\.(py|md|ya?ml|json|toml|txt|conf|svg|jinja|Dockerfile)")
MADE = {"docs/decisions/NNNN-title.md"}  # a form


def dead(document: Path, text: str) -> list[str]:
    """The links of a text that lead nowhere, if it stood in the document."""
    return [link for link in links(text) if not leads_somewhere(document, text, link)]


def leads_somewhere(document: Path, text: str, link: str) -> bool:
    """External ones are judged by their form alone."""
    if "://" in link:
        parts = urlsplit(link)
        return parts.hostname == "localhost" or (parts.scheme == "https" and "." in (parts.hostname or ""))
    path, _, anchor = link.partition("#")
    if not path:
        return anchor in anchors(text)
    target = (document.parent / path).resolve()
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def test_every_link_has_a_target():
    found = {str(document.relative_to(ROOT)): dead(document, document.read_text()) for document in DOCUMENTS}

    assert len(found) > 40
    assert {document: wrong for document, wrong in found.items() if wrong} == {}


def test_a_dead_link_is_found():
    text = "# Here\n[a](reference.md) [b](gone.md) [c](#here) [d](#there) [e](reference.md#settings) ![f](gone.svg)\n"
    text += "[g](reference.md#gone) [h](https://example.org/x) [i](http://example.org) [j](https://nowhere)"

    wrong = ["gone.md", "#there", "gone.svg", "reference.md#gone", "http://example.org", "https://nowhere"]
    assert dead(ROOT / "docs/new.md", text) == wrong


def test_every_named_file_exists():
    named = {
        (str(document.relative_to(ROOT)), span)
        for document in DOCUMENTS
        if document.name != "CHANGELOG.md"
        for span in spans(document.read_text())
        if FILE.fullmatch(span) and span.split("/")[0] in TOP and span not in MADE
    }

    assert len(named) > 60
    assert [(document, name) for document, name in sorted(named) if not (ROOT / name).exists()] == []
