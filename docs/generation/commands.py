"""The page of the commands, from their `--help`."""

from __future__ import annotations

import shlex
from typing import Any

import typer.main
from rich.text import Text

import model_store.cli
import service.cli
import training.cli
from docs.generation.tables import table
from model_store import DEFAULT_STORE

APPS = {"mora-train": training.cli.app, "mora-store": model_store.cli.app, "mora-serve": service.cli.app}
INTRODUCTION = """\
# Commands

There are three commands, one for each package: `mora-train` trains and publishes, `mora-store` manages published
versions, and `mora-serve` serves them. `--help` prints the same text as this page. A command that fails prints one line
to standard error and exits with 1. An invalid command line exits with 2.
"""


def commands_page() -> str:
    """Every command with its arguments and options."""
    return INTRODUCTION + "".join(_program(name, app) for name, app in APPS.items())


def _program(name: str, app: typer.Typer) -> str:
    group: Any = typer.main.get_command(app)  # typer's own copy of click, which it does not export
    text = f"\n## {name}\n\n{_prose(group.help)}\n\n{_prose(group.epilog)}\n"
    return text + "".join(_command(name, word, command) for word, command in group.commands.items())


def _command(program: str, word: str, command: Any) -> str:  # noqa: ANN401
    context = command.context_class(command, info_name=f"{program} {word}")
    usage = command.get_usage(context).removeprefix("Usage: ").strip()
    records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
    rows = [[f"`{names}`", _portable(meaning)] for names, meaning in records]
    options = table(["argument or option", "meaning"], rows) if rows else ""
    text = f"{_prose(command.help)}\n\n{_prose(command.epilog)}\n\n"
    return f"\n### {program} {word}\n\n```text\n{usage}\n```\n\n{text}{options}"


def _prose(text: str | None) -> str:
    """Help text as Markdown, without rich's markup."""
    return _portable(Text.from_markup(text).plain.strip()) if text else ""


def _portable(text: str) -> str:
    return text.replace(shlex.quote(str(DEFAULT_STORE)), "the shipped model_store/").replace("*", "\\*")
