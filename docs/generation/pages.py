"""The pages of the reference that are generated from the code when the site is built (a hook of MkDocs)."""

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

Each task has one YAML file, which every command of `mora-train` reads. A field is also a flag: `--train.epochs 3`,
`--missing.train.ratio 0.5`. There are examples in `training/configs/` and `examples/openclipart/`.
`mora-train show CONFIG` prints the trained parameters.
"""
MANIFEST = """\
# Manifest

`manifest.json` of a published version holds all information that a service needs about it. `mora-store show TASK
--json` prints it. Unknown fields are refused.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages as files under `docs/`."""
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
    """Replace links to files outside `docs/` by their paths."""
    folder = posixpath.dirname(page.file.src_uri)

    def named(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
        return link[0] if path.startswith("docs/") else f"{link[1]} (`{path}`)"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)\)", named, markdown)
