"""More tasks on the trunks of the first, with its golden examples."""

from __future__ import annotations

import safetensors.torch

from model_store import GoldenExample, Precision
from training.data.examples import Example
from training.export.bundle import Blobs, Bundle, head_by_pattern
from training.export.onnx_graphs import export_tails
from training.export.onnx_model import absent_features, reference_logits
from training.learning.runs import TrainedTask


def sibling(first: Bundle, trained: TrainedTask) -> Bundle:
    """A task as `training.export.bundle.export_task` would bundle it, in fp32 and bf16, with the trunks of `first`."""
    adapted, blobs = trained.model.adapter.merge(), Blobs()
    tails = {name: blobs.add(data) for name, data in export_tails(trained.model, adapted).items()}
    precisions = [precision for precision in (Precision.FP32, Precision.BF16) if precision in first.draft.graphs]
    draft = first.draft.model_copy(
        update={
            "task": trained.config.task,
            "graphs": {each: first.draft.graphs[each].model_copy(update=tails) for each in precisions},
            "absent_features": blobs.add(safetensors.torch.save(absent_features(trained))),
            "head": blobs.add(safetensors.torch.save(head_by_pattern(trained.model.head))),
            "golden": tuple(_golden(first, example, trained) for example in first.draft.golden),
        }
    )
    return Bundle(draft, first.blobs | blobs, ())


def _golden(first: Bundle, example: GoldenExample, trained: TrainedTask) -> GoldenExample:
    image = None if example.image is None else first.blobs[example.image.sha256]
    logits = reference_logits(trained, [Example(0, image, example.text, ())])[0]
    return example.model_copy(update={"logits": tuple(logits.tolist())})
