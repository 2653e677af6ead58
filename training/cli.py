"""`mora-train`: data, show, fit, import, evaluate, compare, export, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.markdown import Markdown
from safetensors import SafetensorError

from model_store import DEFAULT_STORE, Manifest, Store, StoreError, read_signing_key
from model_store import publish as publish_to_store
from model_store.messages import describe_os_error
from training.config import TaskConfig, load_config, override
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, RunError, TrainingError
from training.export.bundle import Bundle, export_task
from training.export.single_file import export_single_file
from training.learning.cross_scenario import cross_scenario, named
from training.learning.runs import METRICS, TrainedTask, is_finished, load_trained, read_json, read_report, write_json
from training.learning.trainer import is_main_process
from training.many_values import ManyValues
from training.model.backbones import empty_backbone, load_backbone_config
from training.model.classifier import MissingModalityClassifier
from training.model.preprocessing import Preprocessor
from training.pipeline.compare import METHODS, Comparison
from training.pipeline.fit import clean_up, draw_tables, evaluate_splits, fit, open_run
from training.pipeline.import_model import import_model, plan_import
from training.report.comparison_report import write_comparison
from training.report.console import print_grid, print_import_plan, print_metrics, print_shown
from training.report.overview import contact_sheet, print_overview
from training.report.plots import heat_map

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune a vision-language model with MoRA for items whose image or text may be missing, and publish it.",
)
console = Console()
errors = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the task; see training/configs/.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="What `mora-train fit --output DIR` wrote.")]
BackboneOption = Annotated[str | None, typer.Option(help="Directory or hub id to use in place of the configured one.")]
StoreOption = Annotated[Path, typer.Option("--store", help="Model store to publish to.")]
SignOption = Annotated[
    Path | None,
    typer.Option("--sign-with", metavar="KEY", help="Private key to sign what is published; `mora-store keygen`."),
]
WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=WITH_OVERRIDES)
def show(context: typer.Context, config: ConfigFile, backbone: BackboneOption = None) -> None:
    """Print what would be adapted and how many parameters would be trained. Needs only the backbone's config.json."""
    with _one_line_errors():
        task = _configured(config, context.args, backbone)
        labels = task.labels or load_data(task).labels
        with torch.device("meta"):
            model = MissingModalityClassifier(empty_backbone(load_backbone_config(task.backbone)), task, len(labels))
        print_shown(console, task, model, len(labels))


@app.command("fit", context_settings=WITH_OVERRIDES)
def fit_command(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[Path, typer.Option(help="Run directory: adapter, missing tables, metrics.")],
    publish: Annotated[Path | None, typer.Option(help="Model store to publish a new live version to.")] = None,
    sign_with: SignOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what the run directory holds.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Train, evaluate and, with --publish, put the task live.

    Any field of the configuration is a flag: --train.epochs 3 --mora.rank 8. A run that was killed goes on from its
    last epoch when the same command is given again; a finished run is not trained twice.
    """
    with _one_line_errors():
        signing_key = _signing_key(sign_with)  # first: what is wrong with it should not show after hours of training
        task = _configured(config, context.args, backbone)
        data = _loaded(task)
        if is_finished(output) and not overwrite:
            trained = _reopened(output, task, data)
        else:
            trained = fit(task, data, output, _note, overwrite=overwrite)
        if is_main_process():  # of the processes that torchrun starts one goes on
            _finish(trained, data, output, publish, signing_key)


@app.command("import", context_settings=WITH_OVERRIDES)
def import_command(
    context: typer.Context,
    config: ConfigFile,
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="What was trained elsewhere: a folder, or the authors' best_model.pt."),
    ],
    output: Annotated[Path, typer.Option(help="Run directory, as of `fit`.")],
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="safetensors with weight (C, 2P) and bias (C,), taken as it is.")
    ] = None,
    publish: Annotated[Path | None, typer.Option(help="Model store to publish a new live version to.")] = None,
    sign_with: SignOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what the run directory holds.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Take over a model trained elsewhere: merge, calibrate and evaluate it and, with --publish, put it live.

    CONFIG is the task as for `fit`: its backbone is the model that SOURCE was made from, its data fits what has to be
    fitted, calibrates and tests. SOURCE is one of three, told apart by what is there:

    A PEFT adapter (LoRA, DoRA), a folder with adapter_config.json:
    mora-train import shop.yaml my-lora/ --output runs/shop

    A fine-tuned CLIPModel or SiglipModel, a folder with config.json:
    mora-train import shop.yaml my-clip/ --output runs/shop --head head.safetensors --labels "\\[bag, hat]"

    The file that the code of MoRA's authors writes:
    mora-train import food101.yaml checkpoints/best_model.pt --output runs/food101 --publish model_store

    Any field of the configuration is a flag, as of `fit`.

    A head in SOURCE or in --head is taken as it is, and `labels` must be in its order. Where there is none, the head
    alone is fitted on the training data. Layers that equal the backbone's stay shared with its other tasks.
    """
    with _one_line_errors():
        signing_key = _signing_key(sign_with)
        import_plan = plan_import(_configured(config, context.args, backbone), source, head)
        data = _loaded(import_plan.config)
        for note in import_plan.notes:
            _note(note)
        print_import_plan(console, import_plan, source, data)
        if is_finished(output) and not overwrite:
            trained = _reopened(output, import_plan.config, data)
        else:
            trained = import_model(import_plan, data, output, _note, overwrite)
        _finish(trained, data, output, publish, signing_key)


@app.command(context_settings=WITH_OVERRIDES)
def evaluate(
    run: Annotated[list[Path], typer.Argument(metavar="DIR...", help="What `mora-train fit --output DIR` wrote.")],
    grid: Annotated[bool, typer.Option("--grid", help="Test runs under every kind of missingness.")] = False,
    output: Annotated[Path, typer.Option(help="With --grid: folder for grid.json and grid.svg.")] = Path(),
    backbone: BackboneOption = None,
) -> None:
    """Score a finished run again on its validation and test splits, overall and per presence pattern.

    With --grid, several runs of one task, trained on different kinds of missingness (--missing.train.type and
    --missing.train.ratio of `fit`), are rows, and kinds of missingness of the test split columns.

    Where the data has moved, say so behind DIR: --data.validation PATH --data.test PATH.
    """
    with _one_line_errors():
        folders, flags = _runs_and_flags(run)
        runs = [_finished(folder, flags, backbone) for folder in folders]
        if grid:
            ratios = sorted({ratio for trained, _ in runs if (ratio := trained.config.missing.test.ratio)}) or [0.7]
            names = [
                f"{folder.name}: {named(trained.config.missing.train)}"
                for folder, (trained, _) in zip(folders, runs, strict=True)
            ]
            found = cross_scenario(runs, names, ratios)
            print_grid(console, found)
            output.mkdir(parents=True, exist_ok=True)
            write_json(output / "grid.json", asdict(found))
            (output / "grid.svg").write_text(heat_map(found), encoding="utf-8")
            return
        for folder, (trained, data) in zip(folders, runs, strict=True):
            metrics = read_json(folder / METRICS) | evaluate_splits(trained, data, draw_tables(trained.config, data))
            if data.fingerprint == trained.dataset_fingerprint:
                write_json(folder / METRICS, metrics)
            else:
                _note(f"{folder / METRICS} keeps the scores on the data that the run was trained with")
            print_metrics(console, metrics)


@app.command(cls=ManyValues, context_settings=WITH_OVERRIDES)
def compare(
    context: typer.Context,
    config: ConfigFile,
    methods: Annotated[list[str], typer.Option(help=f"Any of: {', '.join(METHODS)}; or all.")] = ["all"],  # noqa: B006
    seeds: Annotated[list[int], typer.Option(help="Each draws its own start and missing tables.")] = [0, 1, 2],  # noqa: B006
    search: Annotated[str, typer.Option(help="What is searched for each method: learning_rate, or nothing.")] = (
        "learning_rate"
    ),
    output: Annotated[Path | None, typer.Option(help="Folder; left out: runs/compare-TASK.")] = None,
    backbone: BackboneOption = None,
) -> None:
    """Train several methods alike and put them in one table: comparison.md, comparison.json and comparison.svg.

    Each method's learning rate is searched on validation with the first seed: three rates around that of the
    configuration, and further while the best is at an edge. `ours` is the configuration as it is; the others take its
    data, epochs and batches. When the command is given again, what has been run is not run again.
    """
    with _one_line_errors():
        task = _configured(config, context.args, backbone)
        if search not in ("learning_rate", "nothing"):
            raise ConfigError(f"--search: {search!r} cannot be searched; give learning_rate or nothing")
        folder = output or Path("runs") / f"compare-{task.task}"
        comparison = Comparison(
            task, _loaded(task), folder, list(dict.fromkeys(seeds)), search == "learning_rate", _note
        )
        chosen = list(METHODS) if methods == ["all"] else methods
        found = comparison.run(chosen)
        if is_main_process():
            command = ["compare", str(config), "--methods", *methods, "--seeds", *map(str, seeds), "--search", search]
            command += ["--output", str(folder), *(["--backbone", backbone] if backbone else []), *context.args]
            write_comparison(folder, found, command)
            console.print(Markdown((folder / "comparison.md").read_text(encoding="utf-8")))


@app.command(context_settings=WITH_OVERRIDES)
def export(
    context: typer.Context,
    run: RunFolder,
    output: Annotated[Path, typer.Option(help="Folder for the graphs, the head and the manifest.")],
    single_file: Annotated[bool, typer.Option(help="Also write model.onnx: both towers and the head in one.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Merge the adapter, write the ONNX graphs, and prove on every presence pattern that they agree with PyTorch.

    Other precisions than fp32 are written if they cost no pattern more than a budget of accuracy on validation:
    --export.precisions "[int8, fp16]" --export.accuracy_budget 0.5
    """
    with _one_line_errors():
        trained, data = _finished(run, context.args, backbone)
        bundle = _export(trained, data, run)
        _write_bundle(output, bundle)
        if single_file:
            (output / "model.onnx").write_bytes(export_single_file(trained.model))
        error = max(bundle.draft.graphs["fp32"].max_logit_error.values())  # type: ignore[index]
        console.print(f"exported to {output}; largest difference from PyTorch in a logit: {error:.1e}")


@app.command(context_settings=WITH_OVERRIDES)
def publish(
    context: typer.Context,
    run: RunFolder,
    store: StoreOption = DEFAULT_STORE,
    sign_with: SignOption = None,
    backbone: BackboneOption = None,
) -> None:
    """Export a finished run and make it the live version of its task; a running service picks it up by itself."""
    with _one_line_errors():
        signing_key = _signing_key(sign_with)
        trained, data = _finished(run, context.args, backbone)
        _publish(store, _export(trained, data, run), signing_key)


@app.command("data", context_settings=WITH_OVERRIDES)
def data_command(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[Path | None, typer.Option(help="PNG of examples; left out: TASK-examples.png here.")] = None,
    backbone: BackboneOption = None,
) -> None:
    """Count what the data holds, before any training, and draw examples as the model would see them."""
    with _one_line_errors():
        task = _configured(config, context.args, backbone)
        data = load_data(task)
        tables = draw_tables(task, data)
        print_overview(task, data, tables, console)
        sheet = output or Path(f"{task.task}-examples.png")
        preprocessor = Preprocessor(task.backbone, load_backbone_config(task.backbone))
        contact_sheet(data, tables["train"], preprocessor).save(sheet, "PNG")
        console.print(f"examples of train as the model sees them: {sheet}", soft_wrap=True)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (TrainingError, StoreError, OSError, RuntimeError, SafetensorError) as error:
        problem = _told(error)
        if problem is None:
            raise
        errors.print(f"error: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from what is done", markup=False)
        raise typer.Exit(130) from None


def _told(error: Exception) -> str | None:
    """What a person can do about it; None for a fault of ours."""
    if isinstance(error, OSError):
        return describe_os_error(error)
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the GPU has too little memory; lower train.batch_size (--train.batch_size 64) and give the command again"
        )
    if isinstance(error, SafetensorError) or "PytorchStreamWriter" in str(error):  # as both say that a disk is full
        cause = str(error).partition("\n")[0]
        return f"a checkpoint could not be written: {cause}; make room on the disk and give the same command again"
    return None if isinstance(error, RuntimeError) else str(error)


def _note(text: str) -> None:
    errors.print(f"note: {text}", style="yellow", markup=False)


def _loaded(task: TaskConfig) -> TaskData:
    data = load_data(task)
    for note in data.notes:
        _note(note)
    return data


def _runs_and_flags(words: list[Path]) -> tuple[list[Path], list[str]]:
    """DIR... and the flags behind them, which the parser leaves among the arguments."""
    texts = [str(word) for word in words]
    first = next((number for number, text in enumerate(texts) if text.startswith("--")), len(texts))
    if first == 0:
        raise ConfigError(f"DIR comes first, then flags such as {texts[0]}")
    return words[:first], texts[first:]


def _configured(path: Path, overrides: list[str], backbone: str | None) -> TaskConfig:
    config = load_config(path, overrides)
    return config if backbone is None else config.model_copy(update={"backbone": backbone})


def _finished(run: Path, overrides: list[str], backbone: str | None) -> tuple[TrainedTask, TaskData]:
    if not run.is_dir():
        raise RunError(f"{run} is not a folder; name what `mora-train fit --output DIR` wrote")
    if not is_finished(run):
        raise RunError(f"{run} is not a finished run; give the same `mora-train fit` command again to finish it")
    trained = load_trained(run, backbone)
    others = [flag for flag in overrides if flag.startswith("--") and not flag.startswith(("--data.", "--export."))]
    if others:
        raise ConfigError(f"{others[0]} cannot be changed after training; only --data.* and --export.* can")
    config = override(trained.config, overrides)
    data = load_data(config.model_copy(update={"labels": trained.labels}))
    if data.fingerprint != trained.dataset_fingerprint:
        if not any(flag.startswith("--data.") for flag in overrides):
            raise RunError(f"the data of {run} has changed since it was trained; say --data.test PATH to go on with it")
        _note(f"this is not the data that {run} was trained with")
    return _exported_as(trained, config), data


def _reopened(run: Path, task: TaskConfig, data: TaskData) -> TrainedTask:
    """A finished run, if it is of this configuration and data."""
    open_run(run, task, data)
    clean_up(run)
    console.print(f"{run} is finished; nothing to train (--overwrite trains again)")
    return _exported_as(load_trained(run), task)


def _finish(
    trained: TrainedTask, data: TaskData, run: Path, store: Path | None, signing_key: Ed25519PrivateKey | None
) -> None:
    print_metrics(console, read_json(run / METRICS))
    if store is not None:
        _publish(store, _export(trained, data, run), signing_key)


def _exported_as(trained: TrainedTask, config: TaskConfig) -> TrainedTask:
    return replace(trained, config=trained.config.model_copy(update={"export": config.export}))


def _export(trained: TrainedTask, data: TaskData, run: Path) -> Bundle:
    bundle = export_task(trained, read_json(run / METRICS), data.validation, read_report(run))
    for precision_check in bundle.precision_checks:
        console.print(str(precision_check), markup=False, highlight=False, soft_wrap=True)
    return bundle


def _signing_key(path: Path | None) -> Ed25519PrivateKey | None:
    return None if path is None else read_signing_key(path)


def _publish(root: Path, bundle: Bundle, signing_key: Ed25519PrivateKey | None) -> Manifest:
    manifest = publish_to_store(Store(root), bundle.draft, bundle.blobs, signing_key)
    console.print(f"{manifest.task} version {manifest.version} is live in {root}")
    return manifest


def _write_bundle(folder: Path, bundle: Bundle) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draft = bundle.draft
    for precision, graphs in draft.graphs.items():
        for name in ("image_trunk", "image_tail", "text_trunk", "text_tail"):
            (folder / f"{name}.{precision}.onnx").write_bytes(bundle.blobs[getattr(graphs, name).sha256])
    (folder / "head.safetensors").write_bytes(bundle.blobs[draft.head.sha256])
    (folder / "absent_features.safetensors").write_bytes(bundle.blobs[draft.absent_features.sha256])
    (folder / "tokenizer.json").write_bytes(bundle.blobs[draft.text.tokenizer.sha256])
    if draft.report is not None:
        (folder / "report.html").write_bytes(bundle.blobs[draft.report.sha256])
    (folder / "manifest.json").write_text(draft.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":  # for torchrun -m training.cli
    app()
