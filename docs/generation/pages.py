"""The pages of the reference that are made from the code whenever the site is built (a hook of MkDocs)."""

from __future__ import annotations

import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generation.commands import commands_page
from docs.generation.http import http_page
from docs.generation.models import models_page
from model_store.manifest import Manifest
from training.config import TaskConfig

CONFIGURATION = """\
# Configuration of a task

One YAML file a task, read by every command of `mora-train`. A field is a flag too: `--train.epochs 3`,
`--missing.train.ratio 0.5`. Files to begin from are in `training/configs/` and `examples/openclipart/`;
`mora-train show CONFIG` says what one would train.
"""
MANIFEST = """\
# Manifest

What `manifest.json` of a published version says: all that a service must know about it. `mora-store show TASK --json`
prints one. An unknown field is refused.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, as if they were files under `docs/`."""
    pages = {
        "reference/http.md": http_page(),
        "reference/commands.md": commands_page(),
        "reference/configuration.md": models_page(CONFIGURATION, TaskConfig),
        "reference/manifest.md": models_page(MANIFEST, Manifest),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Name the files of the repository that are no pages, where the raw page links to them."""
    folder = posixpath.dirname(page.file.src_uri)

    def named(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        return link[0] if path.startswith("docs/") else f"{link[1]} (`{path}`)"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)", named, markdown)
