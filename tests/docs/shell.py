"""The commands that documents give, read as a shell reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any
from unittest import mock

import typer.main
import yaml

from docs.generation.commands import APPS
from tests.docs.documents import ROOT
from training.config import TaskConfig, override
from training.errors import ConfigError

GROUPS: dict[str, Any] = {name: typer.main.get_command(app) for name, app in APPS.items()}
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
ANY_TASK = TaskConfig.model_validate({"task": "a", "problem": "single_label", "backbone": "b", "data": {"train": "c"}})
_IN_IMAGE = {"service": "mora-serve", "train": "mora-train"}  # what the compose file's services run


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command: without comments, redirections, here-documents and variables set for it."""
    text = re.sub(r"(<<-?\s*'?(\w+)'?.*?\n)(.*?\n)?\2$", r"\1", text, flags=re.DOTALL | re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        for word in lexer:
            if word.startswith("#"):
                break
            if set(word) <= set("|&;"):
                yield from filter(None, [_bare(words)])
                words = []
            else:
                words.append(word)
        yield from filter(None, [_bare(words)])


def within_image(words: list[str]) -> list[str]:
    """What `docker compose run` runs in a container; nothing for other commands."""
    if words[0] not in ("docker", "docker-compose") or "run" not in words:
        return []
    after = words[words.index("run") + 1 :]
    program = after.pop(after.index("--entrypoint") + 1) if "--entrypoint" in after else None
    name = next((word for word in after if word in _IN_IMAGE), None)
    return [] if name is None else [program or _IN_IMAGE[name], *after[after.index(name) + 1 :]]


def mistake(words: list[str]) -> str | None:
    """What one of our own commands, with all it needs, would be refused for; None if nothing."""
    program, *rest = words
    if rest in (["--help"], []):
        return None
    command = GROUPS[program].commands.get(rest[0])
    if command is None:
        return f"{program} has no command {rest[0]}"
    try:
        with mock.patch("training.cli.read_signing_key"):  # the key of an example does not exist
            context = command.make_context(rest[0], rest[1:])
        if context.args:
            override(ANY_TASK, context.args)
    except typer.Exit:  # --help
        return None
    except (typer.BadParameter, ConfigError, _usage_error()) as error:
        return f"{shlex.join(words)}: {error}"
    return None


def unknown_options(words: list[str]) -> list[str]:
    """The options that one of our commands lacks; for those that a sentence names, without what they need."""
    program, *rest = words
    if not rest or rest[0].startswith("-"):
        return []
    command = GROUPS[program].commands.get(rest[0])
    if command is None:
        return [rest[0]]
    known = {"--help", *(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))}
    given = [word.partition("=")[0] for word in rest[1:] if word.startswith("--")]
    takes_fields = command.context_settings.get("allow_extra_args", False)
    return [name for name in given if name not in known and not (takes_fields and _is_field(name[2:]))]


def _is_field(dotted: str) -> bool:
    values: Any = ANY_TASK.model_dump()
    for name in dotted.split("."):
        if name == "*":  # --data.* in a sentence
            return isinstance(values, dict)
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def _usage_error() -> type[Exception]:
    """The class of typer's own copy of click, which it does not export."""
    return typer.BadParameter.__mro__[1]


def _bare(words: list[str]) -> list[str]:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    redirected = next((place for place, word in enumerate(words) if word in (">", ">>", "<", "<<")), None)
    return words if redirected is None else words[:redirected]


def config_of(text: str) -> TaskConfig:
    """A block of YAML as (a part of) a task's configuration. Raises pydantic's ValidationError."""
    return TaskConfig.model_validate(ANY_TASK.model_dump() | yaml.safe_load(text))
