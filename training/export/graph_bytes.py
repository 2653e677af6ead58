"""The bytes of a graph that a converter made."""

from __future__ import annotations

import onnx


def canonical_bytes(model: onnx.ModelProto) -> bytes:
    """Bytes that depend only on the computation, without notes of the converters."""
    graph = model.graph
    graph.name = "main"
    model.doc_string = ""
    for holder in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del holder.metadata_props[:]
    del graph.value_info[:]  # shapes; the runtime infers them
    for node in graph.node:
        node.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
