"""The memory of a graph: one copy of its weights, and outputs that stay on their device."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from model_store import openvino
from service.models.execution import Execution, Runtime
from service.models.graphs import IMAGE_TAIL, IMAGE_TRUNK, TEXT_TAIL, TEXT_TRUNK, Graph, few_sizes, has_cuda, on_host
from service.models.loading import Loader
from service.models.refusal import ShortageError
from service.settings import Settings


def test_an_open_graph_does_not_keep_its_file_in_memory(shelf):
    draft = shelf.draft()
    data = draft.blobs[draft.manifest.graphs["fp32"].image_tail.sha256]
    holders = sys.getrefcount(data)

    graph = Graph(data, "sha256", IMAGE_TAIL, intra_op_threads=1)

    assert sys.getrefcount(data) == holders
    assert graph.run(np.zeros((2, 3, 6), np.float32)).shape == (2, 8)


def test_a_graph_takes_the_output_of_another_graph_on_its_device(shelf):
    draft = shelf.draft()
    blobs, graphs = draft.blobs, draft.manifest.graphs["fp32"]
    trunk = Graph(blobs[graphs.image_trunk.sha256], "trunk", IMAGE_TRUNK, intra_op_threads=1)
    tail = Graph(blobs[graphs.image_tail.sha256], "tail", IMAGE_TAIL, intra_op_threads=1)
    pixels = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)

    hidden = trunk.run_on_device(pixels)

    assert hidden.device_name() == trunk.device
    assert np.array_equal(on_host(hidden), trunk.run(pixels))
    assert np.array_equal(tail.run(hidden), tail.run(trunk.run(pixels)))


def test_a_graph_takes_a_view_of_an_array(shelf):
    draft = shelf.draft()
    data = draft.blobs[draft.manifest.graphs["fp32"].image_tail.sha256]
    graph = Graph(data, "sha256", IMAGE_TAIL, intra_op_threads=1)
    hidden = np.random.default_rng(0).normal(size=(6, 3, 6)).astype(np.float32)

    assert np.array_equal(graph.run(hidden[::2]), graph.run(hidden[::2].copy()))


@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU is at hand: nothing is tested on one")
def test_on_a_gpu_every_graph_runs_there_and_keeps_the_golden_answers(shelf):
    shelf.publish("fruit")

    model = Loader(shelf.store, Settings(store=shelf.store.root)).load("fruit", 1)  # runs the golden examples

    towers = (model.image_tower, model.text_tower)
    assert {graph.device for tower in towers for graph in (tower.trunk, tower.tail.graph)} == {"cuda"}


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_a_graph_is_not_opened_with_fewer_threads_than_it_needs(shelf, monkeypatch, allowed):
    """ONNX Runtime would wait forever for the threads that did start."""
    draft, start, started = shelf.draft(), threading.Thread.start, []
    blob = draft.manifest.graphs["fp32"].image_tail

    def limited(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)

    with pytest.raises(ShortageError, match=f"needs 4 threads, and only {allowed} start.* lower MORA_INTRA_OP_THREADS"):
        Graph(draft.blobs[blob.sha256], blob.sha256, IMAGE_TAIL, intra_op_threads=4)

    assert not any(thread.is_alive() for thread in started)


def test_sizes_are_few_and_at_most_half_as_large_again():
    sizes = [few_sizes(number) for number in range(1, 129)]
    assert sorted({*sizes}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert all(number <= size < 1.5 * number for number, size in enumerate(sizes, start=1))


@pytest.mark.skipif(not openvino.is_fast(), reason="needs AMX and the extra openvino")
@pytest.mark.parametrize("rows", [1, 2, 5, 7])
@pytest.mark.parametrize("length", [2, 5, 7])
def test_openvino_gives_the_outputs_of_the_inputs_alone(shelf, rows, length):
    draft = shelf.draft()
    blobs, graphs = draft.blobs, draft.manifest.graphs["fp32"]
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 5, (rows, length))
    last = rng.integers(0, length, rows)
    found = []
    for execution in (Execution(), Execution(Runtime.OPENVINO)):
        trunk, tail = (
            Graph(blobs[blob.sha256], blob.sha256, contract, 1, execution, longest=7)
            for blob, contract in ((graphs.text_trunk, TEXT_TRUNK), (graphs.text_tail, TEXT_TAIL))
        )
        hidden = trunk.run(ids)
        found.append((hidden, tail.run(hidden, last)))
    for own, other in zip(*found, strict=True):
        assert other.shape == own.shape
        assert np.abs(own - other).max() < 1e-5
