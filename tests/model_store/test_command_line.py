"""A usage error is one line that names the help page, for a command of any kind."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from model_store.command_line import OneLineUsageErrors

app = typer.Typer(cls=OneLineUsageErrors, no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Two commands."""


@app.command()
def count(items: Annotated[int, typer.Argument(metavar="ITEMS")], top: Annotated[int, typer.Option(min=1)] = 1) -> None:
    """Count."""
    raise typer.BadParameter(f"{items} and {top}\ndo not go\x1b[31m together.")


@app.command()
def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["count"], "Missing argument 'ITEMS'; see main count --help"),
        (["count", "two"], "Invalid value for 'ITEMS': "),
        (["count", "1", "--top", "0"], "Invalid value for '--top': "),
        (["count", "1", "--bottom"], "No such option: --bottom"),
        (["count", "1", "--top"], "Option '--top' requires an argument"),
        (["count", "1"], "Invalid value: 1 and 1 do not go [31m together; see main count --help"),
        (["cuont", "1"], "No such command 'cuont'. Did you mean 'count'?; see main --help"),
        (["nothing", "more"], "Got unexpected extra argument(s) (more); see main nothing --help"),
        (["--loud"], "No such option: --loud; see main --help"),
    ],
)
def test_a_usage_error_is_one_line(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, words, prog_name="main")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_help_and_success_are_as_before() -> None:
    alone, asked, done = (CliRunner().invoke(app, words) for words in ([], ["--help"], ["nothing"]))

    assert "Two commands." in alone.output
    assert (alone.stdout.strip(), alone.stderr) == (asked.stdout.strip(), "")
    assert (alone.exit_code, asked.exit_code, done.exit_code, done.output) == (2, 0, 0, "")
