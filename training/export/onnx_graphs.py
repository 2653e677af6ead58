"""ONNX files of the split towers: self-contained, and the same bytes for the same weights."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, fields

import onnx
import torch
from torch import nn
from torch.export import Dim

from training.model.classifier import MissingModalityClassifier

BATCH = Dim("batch", min=1, max=4096)


@dataclass(frozen=True)
class GraphFiles:
    """The four graphs of DESIGN.md as ONNX bytes."""

    image_trunk: bytes
    image_tail: bytes
    text_trunk: bytes
    text_tail: bytes

    def by_name(self) -> dict[str, bytes]:
        """Graph name to bytes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def export_graphs(merged: MissingModalityClassifier) -> GraphFiles:
    """Export a model whose adapter has been merged."""
    pixels, ids = _example_inputs(merged)
    return GraphFiles(
        image_trunk=to_onnx(merged.image_trunk, {"pixel_values": pixels}, "image_hidden", [{0: BATCH}]),
        text_trunk=to_onnx(merged.text_trunk, {"input_ids": ids}, "text_hidden", [{0: BATCH, 1: _length(merged)}]),
        **export_tails(merged),
    )


def export_tails(merged: MissingModalityClassifier) -> dict[str, bytes]:
    """`image_tail` and `text_tail` alone, which are all that another task on the same trunks needs."""
    merged.eval()
    pixels, ids = _example_inputs(merged)
    with torch.no_grad():
        image_hidden, text_hidden = merged.image_trunk(pixels), merged.text_trunk(ids)
    text_inputs = {"text_hidden": text_hidden, "last_token": torch.tensor([4, 3])}
    text_shapes = [{0: BATCH, 1: _length(merged)}, {0: BATCH}]
    return {
        "image_tail": to_onnx(merged.image_tail, {"image_hidden": image_hidden}, "image_features", [{0: BATCH}]),
        "text_tail": to_onnx(merged.text_tail, text_inputs, "text_features", text_shapes),
    }


def _example_inputs(merged: MissingModalityClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    vision = merged.backbone.config.vision_config
    pixels = torch.zeros(2, vision.num_channels, vision.image_size, vision.image_size)
    return pixels, torch.zeros(2, 5, dtype=torch.int64)


def _length(merged: MissingModalityClassifier) -> Dim:
    return Dim("length", min=1, max=merged.backbone.config.text_config.max_position_embeddings)


def to_onnx(module: nn.Module, inputs: dict[str, torch.Tensor], output: str, shapes: list[dict[int, Dim]]) -> bytes:
    """ONNX bytes of a module with one output; `shapes` gives the dynamic dimensions of each input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecations concern its own code
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    return canonical_bytes(program.model_proto)


def canonical_bytes(model: onnx.ModelProto) -> bytes:
    """Bytes that depend on the computation alone: no source locations, no notes of the exporter."""
    graph = model.graph
    graph.name = "main"
    model.doc_string = ""
    for holder in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del holder.metadata_props[:]
    del graph.value_info[:]  # shapes the runtime infers itself
    for node in graph.node:
        node.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
