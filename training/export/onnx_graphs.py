"""ONNX files of the split towers or of the whole model. They are self-contained; equal weights give equal bytes."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.onnx._internal.exporter._registration import ONNXRegistry

from training.model.classifier import MissingModalityClassifier

BATCH = Dim("batch", min=1, max=4096)
GraphFiles = dict[str, bytes]  # `image_trunk`, `image_tail`, `text_trunk` and `text_tail` as ONNX
_Registry: Any = ONNXRegistry
_from_torchlib = _Registry.from_torchlib
_LAST_TOKEN = torch.tensor([4, 3])  # of the two example texts


def export_graphs(merged: MissingModalityClassifier) -> GraphFiles:
    """Export a model whose adapter has been merged."""
    pixels, ids = _example_inputs(merged)
    return {
        "image_trunk": to_onnx(merged.image_trunk, {"pixel_values": pixels}, "image_hidden", [{0: BATCH}]),
        "text_trunk": to_onnx(merged.text_trunk, {"input_ids": ids}, "text_hidden", [{0: BATCH, 1: _length(merged)}]),
        **export_tails(merged),
    }


def export_tails(merged: MissingModalityClassifier) -> GraphFiles:
    """Export `image_tail` and `text_tail` alone, for another task on the same trunks."""
    merged.eval()
    pixels, ids = _example_inputs(merged)
    with torch.no_grad():
        image_hidden, text_hidden = merged.image_trunk(pixels), merged.text_trunk(ids)
    text_inputs = {"text_hidden": text_hidden, "last_token": _LAST_TOKEN}
    text_shapes = [{0: BATCH, 1: _length(merged)}, {0: BATCH}]
    return {
        "image_tail": to_onnx(merged.image_tail, {"image_hidden": image_hidden}, "image_features", [{0: BATCH}]),
        "text_tail": to_onnx(merged.text_tail, text_inputs, "text_features", text_shapes),
    }


class _WholeModel(nn.Module):
    """pixel_values (B, 3, S, S), input_ids (B, L), last_token (B,) -> logits (B, C)."""

    def __init__(self, merged: MissingModalityClassifier) -> None:
        super().__init__()
        self.merged = merged

    def forward(self, pixel_values: Tensor, input_ids: Tensor, last_token: Tensor) -> Tensor:
        image = self.merged.image_features(pixel_values)
        text = self.merged.text_features(input_ids, last_token)
        return self.merged.head(torch.cat([image, text], dim=-1))  # type: ignore[no-any-return]


def export_single_file(merged: MissingModalityClassifier) -> bytes:
    """Export both towers and the head as one file, which takes a white picture or an empty text for a missing input."""
    pixels, ids = _example_inputs(merged)
    inputs = {"pixel_values": pixels, "input_ids": ids, "last_token": _LAST_TOKEN}
    return to_onnx(_WholeModel(merged), inputs, "logits", [{0: BATCH}, {0: BATCH, 1: _length(merged)}, {0: BATCH}])


def _example_inputs(merged: MissingModalityClassifier) -> tuple[Tensor, Tensor]:
    vision = merged.backbone.config.vision_config
    pixels = torch.zeros(2, vision.num_channels, vision.image_size, vision.image_size)
    return pixels, torch.zeros(2, 5, dtype=torch.int64)


def _length(merged: MissingModalityClassifier) -> Dim:
    return Dim("length", min=1, max=merged.backbone.config.text_config.max_position_embeddings)


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], output: str, shapes: list[dict[int, Dim]]) -> bytes:
    """ONNX bytes of a module with one output; `shapes` gives the dynamic dimensions of each input."""
    with _operators_translated_once(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecations concern its own code
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return canonical_bytes(program.model_proto)


@contextmanager
def _operators_translated_once() -> Iterator[None]:
    """Let exports share one registry of operators: torch makes a new one for each, which takes half a second."""
    _Registry.from_torchlib = staticmethod(_registry)
    try:
        yield
    finally:
        _Registry.from_torchlib = _from_torchlib


@functools.cache
def _registry(opset_version: int) -> object:
    return _from_torchlib(opset_version=opset_version)


def canonical_bytes(model: onnx.ModelProto) -> bytes:
    """Bytes that depend only on the computation, without source locations and notes of the exporter."""
    graph = model.graph
    graph.name = "main"
    model.doc_string = ""
    for holder in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        del holder.metadata_props[:]
    del graph.value_info[:]  # shapes; the runtime infers them
    for node in graph.node:
        node.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
