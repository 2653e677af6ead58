"""`mora-train fit --search`: other learning rates, depths and ranks are tried, and the best on validation is kept.

No trial sees the test split: the validation split takes its place.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from model_store.describe.manifest_summary import FEW_ITEMS
from training.config import MissingConfig, TaskConfig, override
from training.data.calibration_split import learning_split
from training.data.splits import TaskData
from training.errors import DivergedError, RunError
from training.learning.evaluation import selection_metric, selection_score
from training.learning.run_folder import is_empty, read_json, remove, write_json
from training.learning.trials import Found, Trial, Values, best_trial
from training.model.backbones import load_backbone_config
from training.pipeline.kept_runs import metrics_of
from training.pipeline.ladder_search import Score, rates_around, search_ladder

RATE, FIRST_LAYER, RANK = "train.learning_rate", "mora.first_layer", "mora.rank"
_RANKS = (1, 2, 4, 8, 16, 32)
_ADAPTED_LAYERS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
_TRIALS = "search.json"


def search(config: TaskConfig, data: TaskData, folder: Path, minutes: float, announce: Callable[[str], None]) -> Found:
    """Try configurations until no neighbour is better or the time is up. Trials of an earlier call are kept.

    The configuration itself is tried first, whatever time it takes. Then one field after the other is searched: the
    learning rate, the depth, the rank, and again from the start while a round has found a better value. A trial begins
    if it and the fit that follows the search can be expected to end within the budget.

    Raises:
        RunError: `folder` holds something else.
        DivergedError: training diverged at every trial.
    """
    trials = _Trials(config, data, folder, 60 * minutes, announce)
    if trials.items < FEW_ITEMS:
        announce(f"validation has {trials.items} items, so the best of several trials may be the best by chance")
    is_complete = False
    with suppress(_TimeIsUpError):
        _search_fields(trials)
        is_complete = True
    shutil.rmtree(trials.trunk_cache, ignore_errors=True)
    chosen = best_trial(trials.tried)
    if chosen.selection is None:
        rates = ", ".join(f"{trial.values[RATE]:.3g}" for trial in trials.tried)
        raise DivergedError(f"training diverged at every learning rate that was tried ({rates}); lower {RATE}")
    return Found(trials.tried, _with(config, chosen.values), trials.metric, is_complete)


def search_folder(run: Path) -> Path:
    """The folder of the search for a run: beside it, because a run folder holds one run alone."""
    return run.with_name(f"{run.name}-search")


def discard_search(folder: Path) -> None:
    """Remove the folder of a search, if it is one."""
    if is_empty(folder) or (folder / _TRIALS).is_file():
        remove(folder)


class _TimeIsUpError(Exception):
    """Another trial could exceed the budget."""


class _Trials:
    """The trials of a search, in a file that is written after each."""

    def __init__(
        self, config: TaskConfig, data: TaskData, folder: Path, budget: float, announce: Callable[[str], None]
    ) -> None:
        learning = learning_split(config, data.validation)
        self.items = len(learning.items)  # that choose
        self.metric = selection_metric(config, data.labels, learning)
        self.tried: list[Trial] = []
        self.trunk_cache = folder / "trunk_cache"
        hidden = config.missing.model_copy(update={"test": MissingConfig()})
        self.config = config.model_copy(update={"missing": hidden})
        self._data = replace(data, test=replace(learning, name="test"))
        self._folder, self._budget, self._announce = folder, budget, announce
        searched = config.model_dump(mode="json", exclude={"export", "publish"})
        self._subject = {"config": searched, "data": data.fingerprint}
        if (folder / _TRIALS).exists():
            saved = read_json(folder / _TRIALS)
            if {name: saved.get(name) for name in self._subject} != self._subject:
                cure = "choose another --output, or add --overwrite"
                raise RunError(f"{folder} holds the search of another configuration or other data; {cure}")
            self.tried = [Trial(**trial) for trial in saved["trials"]]
        elif is_empty(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._save()
        else:
            raise RunError(f"{folder} exists, but holds no search; remove it, or choose another --output")

    def score(self, values: Values) -> Score:
        """The score of a trial, which is run unless it was before. Raises _TimeIsUpError."""
        for trial in self.tried:
            if trial.values == values:
                return trial.selection
        seconds = [trial.seconds for trial in self.tried]
        if seconds and sum(seconds) + seconds[-1] + max(seconds) > self._budget:
            raise _TimeIsUpError
        self.tried.append(self._run(values))
        self._save()
        return self.tried[-1].selection

    def _save(self) -> None:
        write_json(self._folder / _TRIALS, self._subject | {"trials": [asdict(trial) for trial in self.tried]})

    def _run(self, values: Values) -> Trial:
        started, name = time.monotonic(), f"trial {len(self.tried) + 1}"
        title = f"{name}: " + ", ".join(f"{field} {value:g}" for field, value in values.items())
        folder, scores, selection = self._folder / name.replace(" ", "-"), None, None
        try:
            config = _with(self.config, values)
            metrics = metrics_of(config, self._data, folder, self._announce, self.trunk_cache, title)
            scores = metrics["validation"]["overall"]
            selection = selection_score(scores, self.metric)
        except DivergedError as error:
            self._announce(f"{name}: {str(error).partition(';')[0]}")
        remove(folder)
        return Trial(values, scores, selection, round(time.monotonic() - started, 1))


def _search_fields(trials: _Trials) -> None:
    ladders = dict(_ladders(trials.config))
    trials.score({field: ladder[start] for field, (ladder, start) in ladders.items()})
    while True:
        before = best_trial(trials.tried)
        for field, (ladder, _) in ladders.items():
            values = best_trial(trials.tried).values
            search_ladder(ladder, ladder.index(values[field]), partial(_score_with, trials, values, field))
        if best_trial(trials.tried) is before:
            return


def _score_with(trials: _Trials, values: Values, field: str, value: float) -> Score:
    return trials.score(values | {field: value})


def _ladders(config: TaskConfig) -> Iterator[tuple[str, tuple[list[float], int]]]:
    """The fields that the method has, each with its values in rising order and the place of the configured one."""
    yield RATE, rates_around(config.train.learning_rate)
    if config.method in ("head", "full"):  # these adapt no layers, or all
        return
    backbone = load_backbone_config(config.backbone)
    layers = min(backbone.vision_config.num_hidden_layers, backbone.text_config.num_hidden_layers)
    first = max(layers - 2, 0) if config.mora.first_layer is None else config.mora.first_layer
    yield FIRST_LAYER, _ladder(first, [layers - adapted for adapted in _ADAPTED_LAYERS if adapted <= layers])
    if config.method != "bitfit":
        yield RANK, _ladder(config.mora.rank, _RANKS)


def _ladder(configured: int, values: Sequence[int]) -> tuple[list[float], int]:
    ladder = sorted({configured, *values})
    return [*ladder], ladder.index(configured)


def _with(config: TaskConfig, values: Values) -> TaskConfig:
    return override(config, [f"--{field}={value!r}" for field, value in values.items()])
