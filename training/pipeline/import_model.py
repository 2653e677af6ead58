"""`mora-train import`: a task from towers that were trained elsewhere, and from their head or a head fitted here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from model_store.atomic_file import write_atomically
from training.data.missing import draw_tables, pattern_shares
from training.data.splits import TaskData
from training.learning.batches import Collator, RawInputs
from training.learning.evaluation import encode_splits
from training.learning.run_folder import MISSING_TABLES, TOWERS, discard, open_run
from training.learning.runs import TrainedTask, build
from training.model.import_plan import ImportPlan
from training.pipeline.fit import conclude, fit


def import_model(
    plan: ImportPlan, data: TaskData, folder: Path, announce: Callable[[str], None] = print, overwrite: bool = False
) -> TrainedTask:
    """Write the towers into `folder`, take their head or fit one, calibrate, evaluate, report and save."""
    started, config = time.monotonic(), plan.config
    if overwrite:
        discard(folder)
    open_run(folder, config, data)
    write_atomically(folder / TOWERS, safetensors.torch.save(plan.towers))
    if plan.head is None:  # `fit` reads these towers and trains the head alone
        return fit(config, data, folder, announce)
    tables = draw_tables(config, data, folder / MISSING_TABLES)
    model, preprocessor = build(config, len(data.labels), folder)
    model.load_state_dict(plan.head)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    encoded = encode_splits(model, data, Collator(RawInputs(preprocessor), data.labels, config.problem))
    model.cpu()
    mix = pattern_shares(tables["train"])
    trained = TrainedTask(config, data.labels, data.fingerprint, mix, {}, model, preprocessor)
    return conclude(folder, trained, data, tables, encoded, [], started)
