"""The process that times graphs."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from model_store import blob_of
from service.models import timing_child
from service.models.timing_child import seconds_of_a_run


class Sleeper:
    """A graph that counts its runs, each of which takes `seconds` of a made clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.runs, self.now, self.seconds = 0, 0.0, seconds
        monkeypatch.setattr(timing_child.time, "perf_counter", lambda: self.now)

    def run(self, _: np.ndarray) -> None:
        self.runs += 1
        self.now += 100.0 if self.runs == 1 else self.seconds  # the first run is slower everywhere


@pytest.mark.parametrize(("seconds", "runs"), [(10.0, 3), (0.5, 3), (0.3, 4), (0.125, 8), (0.001, 20)])
def test_slow_graphs_run_three_times_and_fast_ones_twenty(monkeypatch, seconds, runs):
    graph = Sleeper(monkeypatch, seconds)
    assert seconds_of_a_run(graph, np.zeros(1), most_seconds=1.0) == pytest.approx(seconds)
    assert graph.runs == 1 + runs


def test_every_job_has_its_line_whatever_happens_to_the_others(shelf, monkeypatch, capsys):
    graphs = shelf.publish("fruit").graphs["fp32"]
    common = {"runtime": "onnxruntime", "precision": "fp32", "most_seconds": 0.001}
    image = {**common, "modality": "image", "shape": [1, 3, 16, 16], "blob": graphs.image_trunk.model_dump()}
    text = {**common, "modality": "text", "shape": [1, 4], "blob": graphs.text_trunk.model_dump()}
    jobs = [
        image,
        {**image, "shape": [1, 3]},
        {**image, "blob": blob_of(b"missing").model_dump()},
        {**text, "blob": graphs.image_trunk.model_dump()},
        text,
    ]
    request = {"store": str(shelf.store.root), "threads": 1, "jobs": jobs}
    monkeypatch.setattr(timing_child.sys, "stdin", io.StringIO(json.dumps(request)))

    timing_child.main()

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [[*line] for line in lines] == [["seconds"], ["problem"], ["problem"], ["problem"], ["seconds"]]
    assert "is missing" in lines[2]["problem"]
