"""`mora-serve classify` in this process, and an input file."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import service.labelling.commands
from service.cli import app


@pytest.fixture
def run(monkeypatch):
    """`run(...)` runs `mora-serve classify ...` in this process and returns its result."""
    monkeypatch.setattr(service.labelling.commands, "configure_logging", lambda _: None)
    return lambda *arguments, stdin=None: CliRunner().invoke(app, ["classify", *map(str, arguments)], input=stdin)


@pytest.fixture(params=["store", "service"])
def place_of_sets(request, with_sets):
    """The options that name a store with label sets, and the options that name a service of this store."""
    return with_sets.options(request.param)


@pytest.fixture
def table(tmp_path):
    """A csv file of two rows."""
    file = tmp_path / "in.csv"
    file.write_text("id,text\n1,red\n2,apple\n")
    return file
