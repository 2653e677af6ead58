"""`make demo` on a tiny store; the shipped store and drawings are what CI runs it on."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.tiny import PICTURE

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture
def demo(shelf, tmp_path, monkeypatch) -> ModuleType:
    """The demo, on three drawings of a tiny store."""
    shelf.publish("fruit")
    shelf.publish("tags")
    entries = [("a.png", "a red apple", "fruit", "apple"), ("b.png", "green", "tags", "sweet")]
    entries.append(("c.png", "a square", "fruit", "plum"))
    for image, *_ in entries:
        (tmp_path / image).write_bytes(PICTURE)
    names = ("image", "text", "task", "label")
    (tmp_path / "items.json").write_text(json.dumps([dict(zip(names, entry, strict=True)) for entry in entries]))
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HELD_OUT", tmp_path)
    monkeypatch.setattr(module, "console", module.Console(width=200))
    monkeypatch.setenv("MORA_STORE", str(shelf.store.root))
    return module


def test_the_demo_shows_each_drawing_three_ways_and_the_metrics_they_moved(demo, capfd):
    assert demo.main() == 0
    output = capfd.readouterr().out
    for word in ("a.png", "b.png", "c.png", "used", "absent", "image_encoder", "stopped"):
        assert word in output
    for stage, runs in [("image_encoder", 6), ("text_encoder", 6), ("head", 9)]:
        assert re.search(rf'mora_stage_duration_seconds_count{{stage="{stage}"}}  \+{runs}\n', output)


@pytest.mark.slow
def test_the_demo_fails_clearly_without_a_model(demo, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MORA_STORE", str(tmp_path / "empty"))
    assert demo.main() == 1
    assert "No task is loaded" in capfd.readouterr().err


@pytest.mark.slow
def test_the_demo_fails_clearly_when_a_request_is_refused(demo, tmp_path, capfd):
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert demo.main() == 1
    assert "JPEG, PNG, WebP, AVIF or GIF" in capfd.readouterr().err
