"""Fit the ten small data sets at default values, beside logistic regression, and write the table of docs/method.md."""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track

from examples.small_data.packages import PackageError
from examples.small_data.prepare import BACKBONE, write_sets
from examples.small_data.sets import SETS, TooFewItemsError
from examples.small_data.trust_tables import NoMarkersError, by_chance, page_with, tables
from model_store.atomic_file import write_atomically
from training.data.splits import TaskData
from training.errors import TrainingError
from training.learning.batches import Collator, RawInputs
from training.learning.encoded_split import encode
from training.learning.run_folder import METRICS, read_json
from training.learning.runs import TrainedTask, build
from training.pipeline.reopen import open_finished

ROOT = Path(__file__).parents[2]


class FitError(Exception):
    """`mora-train fit` failed; the message has its last line, and names its log."""


def trust(
    folder: Annotated[Path, typer.Argument(help="Folder of the data sets, which are made if it has none, and runs.")],
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = ROOT / "docs" / "method.md",
    processes: Annotated[int, typer.Option(min=1, help="Fits at the same time, each with one thread.")] = 2,
) -> None:
    """Fit every set, with several splits. Give the same command again to go on; delete FOLDER/trust to start anew."""
    console = Console()
    try:
        if not all((folder / f"{small_set.name}.parquet").is_file() for small_set in SETS):
            console.print(write_sets(folder))
        results = fit_all(folder, processes, console)
        page.write_text(page_with(page.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")
    except (FitError, NoMarkersError, PackageError, TooFewItemsError, TrainingError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None
    console.print(f"wrote the tables of {page}")


def fit_all(folder: Path, processes: int, console: Console) -> list[dict[str, Any]]:
    """The results of every set and split, in the order of the sets; the largest sets are fitted first."""
    runs = [(small_set.name, seed) for small_set in SETS for seed in range(small_set.splits)]
    (folder / "trust").mkdir(parents=True, exist_ok=True)
    spawned = get_context("spawn")  # torch does not survive a fork
    with ProcessPoolExecutor(processes, spawned, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(result_of, folder, *run): run for run in runs}
        try:
            for done in track(as_completed(waiting), "Fitting", total=len(runs), console=console):
                result = done.result()
                scores = ", ".join(f"{name} {result[name]:.1%}" for name in ("regression", "probe", "fit"))
                console.print(f"{result['set']}, split {result['seed']}: {scores}")
        finally:
            pool.shutdown(cancel_futures=True)
    return [read_json(result_path(folder, *run)) for run in runs]


def result_of(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """The result of a set and a split. It is kept in a file, so it is computed once."""
    path = result_path(folder, name, seed)
    if not path.is_file():
        run, log = path.with_suffix(""), path.with_suffix(".log")
        fit(folder, name, seed, run, log)
        with log.open("a", encoding="utf-8") as output, redirect_stdout(output):
            result = {"set": name, "seed": seed, **scores(folder, name, run)}
        write_atomically(path, json.dumps(result, indent=1).encode())
    return read_json(path)


def result_path(folder: Path, name: str, seed: int) -> Path:
    return folder / "trust" / f"{name}-{seed}.json"


def fit(folder: Path, name: str, seed: int, run: Path, log: Path) -> None:
    """Run `mora-train fit` at default values. Raises FitError."""
    command = [sys.executable, "-m", "training", "fit", f"{name}.yaml", "--output", str(run.absolute())]
    command += ["--data.seed", str(seed), "--backbone", str(BACKBONE)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as output:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise FitError(f"{name}, split {seed}: {' '.join(last) or f'exit status {done.returncode}'} (see {log})")


def scores(folder: Path, name: str, run: Path) -> dict[str, Any]:
    """Test accuracies of the fitted model, the probe and logistic regression, and errors of confidence by pattern."""
    metrics = read_json(run / METRICS)
    trained, data = open_finished(run, ["--data.train", str(folder / f"{name}.parquet")], str(BACKBONE), print)
    collator = trained.collator()
    test = encode(trained.model, data.test, collator)
    head, natural = trained.model.cpu().head, test.natural
    answers = test.by_pattern(head, natural)
    confidence = {
        pattern.value: {
            "items": len(answers[pattern].item),
            "before": metrics["test"][pattern.value]["ece"],
            "after": metrics["test"][pattern.value]["ece_calibrated"],
            "by_chance": by_chance(answers[pattern].logits / trained.calibration[pattern].temperature),
        }
        for pattern in answers
    }
    fitted, yardstick = test.logits(head, natural).argmax(dim=1) == test.targets, regression(trained, data)
    return {
        "rows": sum(len(split.items) for split in data.splits().values()),
        "labels": len(data.labels),
        "test_items": len(fitted),
        "regression": float(yardstick.double().mean()),
        "probe": metrics["probe"]["test"]["overall"]["accuracy"],
        "fit": float(fitted.double().mean()),
        "only_regression": int((yardstick & ~fitted).sum()),
        "only_fit": int((fitted & ~yardstick).sum()),
        "result": metrics["probe"]["result"],
        "confidence": confidence,
    }


def regression(trained: TrainedTask, data: TaskData) -> torch.Tensor:
    """Whether scikit-learn's logistic regression, on the frozen backbone's features, is right in each test item."""
    from sklearn.linear_model import LogisticRegression  # of the extra `trust`

    config = trained.config.model_copy(update={"method": "head"})
    frozen, preprocessor = build(config, len(data.labels))
    collator = Collator(RawInputs(preprocessor), data.labels, config.problem)
    train, test = (encode(frozen, split, collator) for split in (data.train, data.test))
    model = LogisticRegression(max_iter=2000).fit(train.features(train.natural), train.targets)
    return torch.as_tensor(model.predict(test.features(test.natural))) == test.targets


if __name__ == "__main__":
    typer.run(trust)
