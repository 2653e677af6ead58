"""The order of the checks and the results page. The checks themselves run on a GPU: `make gpu-check`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.gpu import check

APP = typer.Typer()
APP.command()(check.main)


def run(*flags: str, output: Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(APP, [*flags, "--output", str(output)])
    return done.exit_code, done.output, output.read_text() if output.is_file() else ""


@pytest.mark.slow
def test_the_dry_run_serves_the_shipped_store(tmp_path: Path) -> None:
    status, _, page = run("--dry-run", "--only", "installation", output=tmp_path / "gpu.md")

    assert status == 0
    assert "| The installation and the shipped store | passed |" in page
    assert all(f"- {pattern}: " in page for pattern in ("image", "text", "both"))


@pytest.mark.parametrize(
    ("limit", "fault"),
    [(60, "(exit status 2)"), (0.01, "stopped after 0.01 s")],
    ids=["failed", "too slow"],
)
def test_a_step_that_fails_stops_no_other(tmp_path, monkeypatch, limit, fault) -> None:
    broken = {"arguments": ("Nothing", 60), "installation": ("Broken", limit)}
    monkeypatch.setattr(check, "STEPS", broken)
    monkeypatch.setattr(
        check, "step_command", lambda name, folder, dry_run: [sys.executable, "-m", f"benchmarks.gpu.{name}"]
    )

    status, output, page = run("--dry-run", "--only", "installation", "--only", "arguments", output=tmp_path / "gpu.md")

    assert status == 1
    assert "failed: Broken" in output
    assert fault in page
    assert "| Broken | **failed** |" in page
    assert "| Nothing | passed |" in page


def test_runs_with_one_folder_make_one_page(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(check, "STEPS", {"first": ("First", 60), "second": ("Second", 60)})
    monkeypatch.setattr(
        check, "step_command", lambda name, folder, dry_run: [sys.executable, "-c", f"print('says {name}')"]
    )
    kept = ("--dry-run", "--folder", str(tmp_path / "kept"))

    for names in (("--only", "second"), ("--only", "first"), ("--only", "second")):
        status, _, page = run(*kept, *names, output=tmp_path / "gpu.md")

        assert status == 0

    sections = page[page.index("## First") :]
    assert page.count("| passed |") == 2
    assert sections.index("says first") < sections.index("## Second") < sections.index("says second")


@pytest.mark.parametrize("flags", [("--only", "everything"), ()], ids=["unknown step", "no GPU"])
def test_what_cannot_run_is_a_usage_error(tmp_path, monkeypatch, flags) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    status, output, page = run(*flags, output=tmp_path / "gpu.md")

    assert status == 2
    assert "the steps are installation" in output or "--dry-run" in output
    assert not page


def test_a_step_that_is_too_slow_stops_its_servers(tmp_path, monkeypatch) -> None:
    stopped, wait = tmp_path / "stopped", "print('waits', flush=True); time.sleep(60)"
    code = f"import pathlib, time\ntry:\n    {wait}\nfinally:\n    pathlib.Path({str(stopped)!r}).touch()"
    monkeypatch.setattr(check, "STEPS", {"slow": ("Slow", 3)})
    monkeypatch.setattr(check, "step_command", lambda name, folder, dry_run: [sys.executable, "-c", code])

    status, _, page = run("--dry-run", output=tmp_path / "gpu.md")

    assert (status, stopped.exists()) == (1, True)
    assert "waits" in page
    assert "stopped after 3 s" in page
