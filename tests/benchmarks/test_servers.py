"""Servers are processes of their own, and what they are given works."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fanout
from benchmarks.fanout import batch_bodies, check_fan_out
from benchmarks.load import MeasurementError
from benchmarks.mix import Item
from benchmarks.models import as_if_trained, write_backbone, write_config
from benchmarks.servers import Program, serving
from benchmarks.siblings import sibling
from model_store import Store, publish
from service.models.loading import Loader
from service.settings import Settings
from training.data.splits import load_data
from training.export.bundle import export_task


def test_a_server_that_ends_at_once_is_shown_with_its_log() -> None:
    program = Program("broken", ("-c", "raise SystemExit('no such model')"), "/", "/")

    with pytest.raises(MeasurementError, match=r"(?s)broken did not become ready.*no such model"), serving(program):
        pass


def test_a_server_is_ready_when_its_path_answers_and_gone_afterwards() -> None:
    program = Program("files", ("-c", _FILE_SERVER), "/", "/")

    with serving(program) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.resident_bytes() > 2**20
        assert Path(f"/proc/{server.pid}").exists()

    assert not Path(f"/proc/{server.pid}").exists()


_FILE_SERVER = """
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(("127.0.0.1", int(sys.argv[-1])), SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.mark.parametrize("results", [[], [[{"labels": []}]], [[{"labels": []}, {"code": "unknown_task"}]]])
def test_fan_out_must_answer_every_task(results: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "post", lambda *_: {"results": results})

    with pytest.raises(MeasurementError, match="one item for 2 tasks"):
        check_fan_out("url", Item(None, "a text"), 2)


def test_a_batch_body_asks_every_task_about_one_item() -> None:
    assert batch_bodies([Item(None, "a text")], 2) == [
        b'{"inputs": [{"text": "a text"}], "tasks": ["task-1", "task-2"]}'
    ]


@pytest.mark.slow
def test_tasks_that_share_exported_graphs_pass_the_checks_of_the_service(tmp_path: Path) -> None:
    write_backbone(tmp_path / "backbone", tiny=True)
    config = write_config(tmp_path, "task-1", ["int8"])
    data = load_data(config)
    metrics: dict[str, object] = {"validation": {}, "test": {}}
    first = export_task(as_if_trained(config, data, seed=1), metrics, data, b"<html></html>")
    second = sibling(first, as_if_trained(config.model_copy(update={"task": "task-2"}), data, seed=2))

    store = Store(tmp_path / "store")
    for bundle in (first, second):
        publish(store, bundle.draft, bundle.blobs)
    loader = Loader(store, Settings.model_validate({"store": store.root, "precision": "fp32"}))
    models = [loader.load(task, 1) for task in ("task-1", "task-2")]  # each checks its golden examples

    assert models[0].image_tower.trunk is models[1].image_tower.trunk
    assert models[0].image_tower.tail != models[1].image_tower.tail
    assert len(loader.graphs) == 4
