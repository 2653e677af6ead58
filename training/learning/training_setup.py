"""What a training needs before its first step: its schedule and settings, its collator, its processes.

`TrainingArguments` is imported where it is used: its module imports PEFT and text generation, which takes a second.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.config import TaskConfig
from training.data.splits import TaskData
from training.errors import RunError
from training.learning.batches import Collator, RawInputs
from training.learning.processes import is_main_process, process_count
from training.learning.trunk_outputs import open_or_build
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor

if TYPE_CHECKING:
    from transformers import TrainingArguments

_EPOCHS, _STEPS = 20, 300  # the least
_SMALLEST_BATCH, _LARGEST_BATCH = 16, 256


def set_seed(seed: int) -> None:
    """Seed every source of random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # also of GPUs


def use_deterministic_kernels() -> None:
    """On a GPU, sum in a fixed order, so that two runs with one seed agree to the bit. On a CPU they always do."""
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's first product is computed
        torch.use_deterministic_algorithms(True)


def main_process_first(arguments: TrainingArguments | None) -> AbstractContextManager[None]:
    """Let the main process run the block before the others. Without arguments, it is the only one."""
    if arguments is None:
        return nullcontext()
    return arguments.main_process_first(local=False)  # type: ignore[no-any-return]


def wait_for_all_processes() -> None:
    """Return once every process that torchrun started has come here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def schedule(config: TaskConfig, items: int) -> tuple[int, int]:
    """Epochs and batch size for a number of training items, so that a small training split gets 300 steps too."""
    batch_size = config.train.batch_size or _LARGEST_BATCH
    if config.train.batch_size is None:
        while batch_size > _SMALLEST_BATCH and _EPOCHS * math.ceil(items / batch_size) < _STEPS:
            batch_size //= 2
    return config.train.epochs or max(_EPOCHS, math.ceil(_STEPS / math.ceil(items / batch_size))), batch_size


def training_arguments(config: TaskConfig, items: int, folder: Path) -> TrainingArguments:
    """The Trainer's settings for a number of training items; the epoch with the best selection score is kept.

    Raises:
        RunError: the processes that torchrun started cannot share a batch evenly.
    """
    from transformers import TrainingArguments

    train, has_gpu = config.train, torch.cuda.is_available()
    epochs, batch_size = schedule(config, items)
    processes = process_count()
    if batch_size % processes:
        problem = f"train.batch_size is {batch_size}, which {processes} processes cannot share evenly"
        raise RunError(f"{problem}; choose a multiple of {processes}")
    arguments = TrainingArguments(
        output_dir=str(folder.resolve()),  # the trainer finds its best checkpoint by this path
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size // processes,
        per_device_eval_batch_size=batch_size // processes,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        adam_beta1=train.betas[0],
        adam_beta2=train.betas[1],
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        bf16=train.precision == "bf16",
        use_cpu=not has_gpu,
        seed=train.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # the epochs without a better score are counted on
        metric_for_best_model="selection",
        logging_strategy="epoch",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,  # EpochLines has the progress bar
        log_level="error",
        dataloader_pin_memory=has_gpu,
        ddp_find_unused_parameters=False,
        ddp_timeout=24 * 3600,  # seconds; other processes wait while the first fills the trunk cache
        ddp_backend="gloo" if processes > 1 and not has_gpu else None,
    )
    if arguments.parallel_mode.value == "not_distributed":
        arguments._n_gpu = min(arguments.n_gpu, 1)  # items of a batch share rows, so only torchrun can divide it
    return arguments


def collator_for(
    model: MissingModalityClassifier,
    preprocessor: Preprocessor,
    config: TaskConfig,
    data: TaskData,
    cache_folder: Path,
    announce: Callable[[str], None],
) -> Collator:
    """The collator of a task, with the frozen layers' outputs from a cache on disk where that is possible."""
    cache = None
    if config.train.cache_trunk and config.method != "full":  # full fine-tuning trains the trunk too
        cache = open_or_build(model, preprocessor, data, cache_folder, announce, may_build=is_main_process())
    return Collator(cache or RawInputs(preprocessor), data.labels, config.problem)
