"""More tasks on the trunks of one: exporting those again would take a minute a task, for the same bytes."""

from __future__ import annotations

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.export import Dim

from model_store import Blob, GoldenExample, Pattern, Precision, blob_of
from training.batches import RawInputs
from training.export import Bundle
from training.graphs import BATCH, to_onnx
from training.items import Item
from training.model import MissingModalityClassifier
from training.parity import Reference
from training.runs import TrainedTask


def sibling(first: Bundle, trained: TrainedTask) -> Bundle:
    """A task as `training.export.export_task` would bundle it, in fp32, with the trunks of `first`."""
    model = trained.model
    model.adapter.merge()
    blobs: dict[str, bytes] = {}

    def add(data: bytes) -> Blob:
        blob = blob_of(data)
        blobs[blob.sha256] = data
        return blob

    inputs = RawInputs(trained.preprocessor)
    with torch.no_grad():
        image, text = model.features(**inputs.images([]), **inputs.texts([]))
    tails = {name: add(data) for name, data in _tails(model).items()}
    draft = first.draft.model_copy(
        update={
            "task": trained.config.task,
            "graphs": {Precision.FP32: first.draft.graphs[Precision.FP32].model_copy(update=tails)},
            "absent_features": add(safetensors.torch.save({"image": image[0].clone(), "text": text[0].clone()})),
            "head": add(safetensors.torch.save(_head(model))),
            "golden": tuple(_golden(first, example, trained) for example in first.draft.golden),
        }
    )
    return Bundle(draft, {**first.blobs, **blobs}, ())


def _tails(model: MissingModalityClassifier) -> dict[str, bytes]:
    vision, text = model.backbone.config.vision_config, model.backbone.config.text_config
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    length = Dim("length", min=1, max=text.max_position_embeddings)
    image_hidden, text_hidden = torch.zeros(2, tokens, vision.hidden_size), torch.zeros(2, 5, text.hidden_size)
    text_inputs = {"text_hidden": text_hidden, "last_token": torch.tensor([4, 3])}
    return {
        "image_tail": to_onnx(model.image_tail, {"image_hidden": image_hidden}, "image_features", [{0: BATCH}]),
        "text_tail": to_onnx(model.text_tail, text_inputs, "text_features", [{0: BATCH, 1: length}, {0: BATCH}]),
    }


def _head(model: MissingModalityClassifier) -> dict[str, Tensor]:
    parts = dict(model.head.named_parameters())
    return {f"{pattern}.{name}": value.detach().clone() for pattern in Pattern for name, value in parts.items()}


def _golden(first: Bundle, example: GoldenExample, trained: TrainedTask) -> GoldenExample:
    image = None if example.image is None else first.blobs[example.image.sha256]
    logits = Reference(trained).logits([Item(0, image, example.text, ())])[0].numpy()
    return example.model_copy(update={"logits": tuple(np.asarray(logits, np.float64).tolist())})
