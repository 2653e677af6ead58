"""`mora-train analyse`: what training changed in a finished run's towers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from model_store import Problem
from model_store.atomic_file import write_atomically
from training.data.copies import distinct_targets
from training.data.splits import TaskData
from training.learning.encoded_pairs import pairs_of
from training.learning.encoded_split import encode
from training.learning.run_folder import ANALYSIS, METRICS, REPORT, read_history, read_json, write_json
from training.learning.runs import TrainedTask
from training.learning.weight_changes import changed_spectra, gram_spectra, modality_gap
from training.model.backbones import load_backbone
from training.model.mora import MoRAAdapter
from training.model.retriever import make_model
from training.pipeline.reopen import divided_again
from training.report.html_report import report_html
from training.report.report_data import report_data
from training.report.retrieval_report_data import retrieval_report_data


def analyse(folder: Path, trained: TrainedTask, data: TaskData) -> tuple[dict[str, Any], bool]:
    """Compare a run's towers with the pretrained ones; afterwards the run's adapter is merged.

    Returns:
        `weights`, `gram` and `modality_gap` (`before` and `after`) of `training.learning.weight_changes`; and whether
        analysis.json and the report have them: only if the run was trained with this data.
    """
    divided, device = divided_again(folder, trained, data), next(trained.model.parameters()).device
    pretrained, plain = load_backbone(trained.config.backbone), trained.config.model_copy(update={"method": "head"})
    untrained = make_model(pretrained, plain, len(trained.labels)).to(device)
    before, after = (encode(model, divided.data.test, trained.collator()) for model in (untrained, trained.model))
    adapter = trained.model.cpu().adapter
    first_layers = {"image": trained.model.image_split, "text": trained.model.text_split}
    gram = gram_spectra(adapter, first_layers) if isinstance(adapter, MoRAAdapter) else []
    adapter.merge()
    analysis = {
        "weights": changed_spectra(pretrained, trained.model.backbone),
        "gram": gram,
        "modality_gap": {"before": modality_gap(before), "after": modality_gap(after)},
    }
    is_own_data = data.has_fingerprint(trained.dataset_fingerprint)
    if is_own_data:
        metrics, history = read_json(folder / METRICS), read_history(folder)
        run = divided.data, after, divided.tables["test"], metrics, history, analysis
        if trained.config.problem is Problem.RETRIEVAL:
            gallery = replace(divided.data.test, items=distinct_targets(divided.data.test.items))
            pairs = pairs_of(after, encode(trained.model, gallery, trained.collator()))
            report = retrieval_report_data(trained, divided.data, pairs, *run[2:])
        else:
            report = report_data(trained, *run)
        write_atomically(folder / REPORT, report_html(report).encode())
        write_json(folder / ANALYSIS, analysis)
    return analysis, is_own_data
