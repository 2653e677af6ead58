"""Export of a trained task: merge it, check that the graphs agree with PyTorch, and describe it for the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from model_store import (
    Backbone,
    Blob,
    GoldenExample,
    Graphs,
    ItemScores,
    ManifestDraft,
    Pattern,
    Precision,
    Problem,
    Provenance,
    Store,
    blob_of,
)
from training.data.examples import Example
from training.data.golden import golden_items
from training.data.splits import TaskData
from training.export.known_trunks import known_int8_trunks
from training.export.onnx_graphs import GraphFiles, export_graphs, export_tails
from training.export.onnx_model import OnnxModel, absent_features, measure_parity, reference_logits
from training.export.precision_check import PrecisionCheck, PrecisionChecker
from training.learning.runs import TrainedTask
from training.model.towers import feature_size
from training.provenance import code_version, package_versions, public_config, public_path


@dataclass(frozen=True)
class Bundle:
    """A task ready to be published: its manifest without a version, blobs by SHA-256, and the precision checks.

    `test_scores` are those of the run, if it has them.
    """

    draft: ManifestDraft
    blobs: dict[str, bytes]
    precision_checks: tuple[PrecisionCheck, ...]
    test_scores: ItemScores | None = None

    def write(self, folder: Path) -> None:
        """Write graphs, head, absent features, tokenizer, manifest and, if it is published, report into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for use, blob in self.draft.files().items():
            group, _, name = use.rpartition("/")  # the group is a precision, `golden` or empty
            if group != "golden":
                stem, ending = name.split(".")
                (folder / (f"{stem}.{group}.{ending}" if group else name)).write_bytes(self.blobs[blob.sha256])
        (folder / "manifest.json").write_text(self.draft.model_dump_json(indent=1) + "\n", encoding="utf-8")


def export_task(
    trained: TrainedTask,
    metrics: dict[str, Any],
    data: TaskData,
    report: bytes | None,
    test_scores: ItemScores | None = None,
    store: Store | None = None,
) -> Bundle:
    """Merge the adapter and export the task, at fp32 and at each configured precision that is accurate enough.

    Args:
        metrics: the run's metrics.json.
        data: ONNX is compared with PyTorch on its validation split, and each precision with fp32 on all splits. The
            golden examples are taken from validation, or made up if `publish.examples` is false.
        report: the run's report.html as it is published, if it is.
        test_scores: the run's, if it has them.
        store: where the task will be published. Its int8 trunks are shared with tasks on the same backbone there.

    Raises:
        DivergedError: the model's logits are not finite, or too large to be compared.
        ExportError: a logit of the graphs differs from the merged PyTorch model's by more than 1e-4.
    """
    model, preprocessor, examples = trained.model.cpu().eval(), trained.preprocessor, data.validation
    adapted = model.adapter.merge()
    files = export_graphs(model)
    published = files | export_tails(model, adapted)
    absent = absent_features(trained)
    parity = measure_parity(OnnxModel(published, absent, trained), trained, examples)
    parity.check(trained.config)
    blobs, config = Blobs(), trained.config
    shown = examples if config.publish.examples else replace(examples, items=[])  # made-up items stand in
    golden = [(pattern, item, reference_logits(trained, [item])[0]) for pattern, item in golden_items(shown)]
    known_trunks: GraphFiles = {}
    if store is not None and Precision.INT8 in config.export.precisions:
        known_trunks = known_int8_trunks(store, config.task, files)
    checker = PrecisionChecker(trained, files, absent, data, golden, known_trunks)
    precision_checks = tuple(checker.check(Precision(name)) for name in config.export.precisions)
    graphs = {Precision.FP32: _graphs(published, blobs, max_logit_error=parity.error)}
    for check in precision_checks:
        if check.files is not None:
            graphs[check.precision] = _graphs(
                published if check.precision is Precision.BF16 else check.files,
                blobs,
                max_logit_error=check.max_logit_error,
                metric_change=check.change,
                effects=check.effects,
                fixed_scales=check.precision is Precision.INT8,
            )
    draft = ManifestDraft(
        task=config.task,
        problem=config.problem,
        labels=trained.labels,
        embedding_size=model.head.out_features if config.problem is Problem.RETRIEVAL else None,
        backbone=_backbone(trained),
        image=preprocessor.image_description(),
        text=preprocessor.text_description(),
        graphs=graphs,
        absent_features=blobs.add(safetensors.torch.save(absent)),
        head=blobs.add(safetensors.torch.save(head_by_pattern(model.head))),
        calibration=trained.calibration,
        label_sets=trained.label_sets,
        golden=tuple(_golden(*example, blobs) for example in golden),
        metrics={name: metrics[name] for name in ("validation", "test")},
        intervals=metrics.get("intervals", {}),  # runs of earlier versions have none
        training_mix={Pattern(name): share for name, share in trained.training_mix.items()},
        report=None if report is None else blobs.add(report),
        test_scores=None if test_scores is None else blobs.add(test_scores.model_dump_json().encode()),
        provenance=Provenance(
            code_version=code_version(),
            created_at=datetime.now(UTC),
            seed=config.train.seed,
            dataset_fingerprint=trained.dataset_fingerprint,
            config=public_config(config.model_dump(mode="json")),
            packages=package_versions(),
        ),
    )
    blobs.add(preprocessor.tokenizer_file())
    return Bundle(draft, blobs, precision_checks, test_scores)


def _graphs(files: GraphFiles, blobs: Blobs, **measured: Mapping[Pattern, object] | bool) -> Graphs:
    stored = {name: blobs.add(data) for name, data in files.items()}
    return Graphs.model_validate(stored | measured)


def _golden(pattern: Pattern, item: Example, logits: Tensor, blobs: Blobs) -> GoldenExample:
    image = blobs.add(item.image) if isinstance(item.image, bytes) else None
    return GoldenExample(pattern=pattern, image=image, text=item.text, logits=tuple(logits.tolist()))


def head_by_pattern(head: torch.nn.Linear) -> dict[str, Tensor]:
    """Weight and bias of each pattern, equal for all: a head for each pattern did not help (docs/method.md)."""
    return {
        f"{pattern}.{name}": value.detach().clone()
        for pattern in Pattern
        for name, value in (("weight", head.weight), ("bias", head.bias))
    }


def _backbone(trained: TrainedTask) -> Backbone:
    model = trained.model
    vision, text = model.backbone.config.vision_config, model.backbone.config.text_config
    return Backbone(
        name=public_path(trained.config.backbone),
        family=model.backbone.config.model_type,
        image_width=vision.hidden_size,
        text_width=text.hidden_size,
        feature_size=feature_size(model.backbone),
        image_layers=vision.num_hidden_layers,
        text_layers=text.num_hidden_layers,
        image_first_tail_layer=model.image_split,
        text_first_tail_layer=model.text_split,
    )


class Blobs(dict[str, bytes]):
    """Contents by their SHA-256."""

    def add(self, data: bytes) -> Blob:
        """Add the content and return its SHA-256 and size."""
        blob = blob_of(data)
        self[blob.sha256] = data
        return blob
