"""`mora-train analyse` of finished runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app
from training.config import TaskConfig
from training.data.splits import load_data
from training.learning.run_folder import read_json
from training.pipeline.fit import fit

Make = Callable[..., TaskConfig]


def finished(make_config: Make, folder: Path, **fields: object) -> Path:
    config = make_config(**{"train": {"epochs": 1, "batch_size": 8, "probe": False}, **fields})
    fit(config, load_data(config), folder, lambda _: None)
    return folder


@pytest.mark.parametrize("method", ["mora", "full"])
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["fc2", "fc1", "out_proj"]])
@pytest.mark.slow
def test_the_report_gains_what_training_changed(
    make_config: Make, tmp_path: Path, method: str, modules: list[str]
) -> None:
    run = finished(make_config, tmp_path / "run", method=method, mora={"target_modules": modules})
    before, page = read_json(run / "metrics.json"), (run / "report.html").read_text()

    result = CliRunner().invoke(app, ["analyse", str(run)])

    assert result.exit_code == 0, result.output
    analysis = read_json(run / "analysis.json")
    towers = {weight["tower"] for weight in analysis["weights"]}
    assert towers == {"image", "text"}
    assert {weight["module"] for weight in analysis["weights"]} >= {*modules}
    assert bool(analysis["gram"]) == (method == "mora")
    gap = analysis["modality_gap"]
    assert gap["before"] != gap["after"]
    assert gap["before"]["items"] == gap["after"]["items"] > 2
    assert "W - W0" in result.output
    changed = (run / "report.html").read_text()
    assert 'id="changes"' in changed
    assert 'id="changes"' not in page
    section = re.compile(r'<section>\n<h2 id="changes">.*?</section>\n+', re.DOTALL)
    assert figures(section.sub("", changed)) == figures(page), "the other sections stay as they are"
    assert read_json(run / "metrics.json") == before
    assert ("gram-spectra" in changed) == (method == "mora")

    again = CliRunner().invoke(app, ["analyse", str(run)])

    assert again.exit_code == 0, again.output
    assert (run / "report.html").read_text() == changed
    assert read_json(run / "analysis.json") == analysis


def figures(page: str) -> list[str]:
    return re.findall(r"<title>(.*?)</title>", page)


@pytest.mark.slow
def test_a_run_that_trained_only_a_head_says_so(make_config: Make, tmp_path: Path) -> None:
    run = finished(make_config, tmp_path / "run", method="head")

    result = CliRunner().invoke(app, ["analyse", str(run)])

    assert result.exit_code == 0, result.output
    assert "only the head is trained" in result.output
    assert "only the head is trained" in (run / "report.html").read_text()
    gap = read_json(run / "analysis.json")["modality_gap"]
    assert gap["before"] == gap["after"]


@pytest.mark.slow
def test_other_data_changes_no_file_of_the_run(make_config: Make, tmp_path: Path) -> None:
    run = finished(make_config, tmp_path / "run")
    page, test = (run / "report.html").read_bytes(), make_config().data.validation

    result = CliRunner().invoke(app, ["analyse", str(run), "--data.test", str(test)])

    assert result.exit_code == 0, result.output
    assert "keeps its report" in result.output
    assert (run / "report.html").read_bytes() == page
    assert not (run / "analysis.json").exists()
