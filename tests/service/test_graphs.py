"""A graph in memory: its weights once."""

from __future__ import annotations

import sys

import numpy as np

from service.graphs import IMAGE_TAIL, Graph


def test_an_open_graph_does_not_keep_the_bytes_it_came_from(shelf):
    draft = shelf.draft()
    data = draft.blobs[draft.manifest.graphs["fp32"].image_tail.sha256]
    holders = sys.getrefcount(data)

    graph = Graph(data, "sha256", IMAGE_TAIL, intra_op_threads=1)

    assert sys.getrefcount(data) == holders
    assert graph.run(np.zeros((2, 3, 6), np.float32)).shape == (2, 8)
