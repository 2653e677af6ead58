"""The pages for those who come from a notebook: their commands, in their order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model_store import Pattern, Store
from tests.docs.documents import ROOT, blocks


def follow(page: str, folder: Path) -> str:
    """What the commands of a page print, without those that install."""
    (folder / "examples").symlink_to(ROOT / "examples")
    commands = "".join(block.text for block in blocks(ROOT / "docs" / page) if block.language == "sh")
    script = re.sub(r"^pip install .*$", "", commands, flags=re.MULTILINE)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, stdout=-1, stderr=-2, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.full_only
@pytest.mark.parametrize(
    ("page", "least", "notebook"),
    [("from-scikit-learn.md", 0.9, r"clothing fruit furniture vehicle (\d+)%"), ("from-peft.md", 0.7, None)],
)
def test_the_model_of_a_notebook_is_served(tmp_path: Path, page: str, least: float, notebook: str | None) -> None:
    said = follow(page, tmp_path)

    manifest = Store(tmp_path / "my-shop/store").manifest("shop-kind")
    scores = manifest.metrics["test"]
    assert scores["overall"]["accuracy"] > least
    assert set(scores) >= {*Pattern}
    assert re.search(r"^clothing +\d\d", said, re.MULTILINE)
    if notebook is not None:
        (percent,) = re.findall(notebook, said)
        assert scores["overall"]["accuracy"] == pytest.approx(int(percent) / 100, abs=0.01)
    if page == "from-peft.md":
        assert scores["text"]["accuracy"] < scores["both"]["accuracy"]  # as the page says
