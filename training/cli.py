"""`mora-train`: show, fit, evaluate, export, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import CLIPModel

from model_store import DEFAULT_STORE, Manifest, Store, StoreError
from model_store import publish as publish_to_store
from training.config import TaskConfig, load_config, override
from training.data import TaskData, load_data
from training.errors import RunError, TrainingError
from training.export import Bundle, export_task
from training.fitting import claim, discard, draw_tables, evaluate_splits, fit
from training.model import MissingModalityClassifier, load_clip_config
from training.runs import METRICS, TrainedTask, is_finished, load_trained, read_json, write_json
from training.single_file import export_single_file

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
WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=WITH_OVERRIDES)
def show(context: typer.Context, config: ConfigFile, backbone: BackboneOption = None) -> None:
    """Print what would be adapted and how many parameters would be trained. Needs only the backbone's config.json."""
    with _one_line_errors():
        task = _configured(config, context.args, backbone)
        labels = task.labels or load_data(task).labels
        with torch.device("meta"):
            model = MissingModalityClassifier(CLIPModel(load_clip_config(task.backbone)), task, len(labels))
        _print_shown(task, model, len(labels))


@app.command("fit", context_settings=WITH_OVERRIDES)
def fit_command(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[Path, typer.Option(help="Run directory: adapter, missing tables, metrics.")],
    publish: Annotated[Path | None, typer.Option(help="Model store to publish a new live version to.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what the run directory holds.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Train, evaluate and, with --publish, put the task live.

    Any field of the configuration is a flag: --train.epochs 3 --mora.rank 8. A run that was killed goes on from its
    last epoch when the same command is given again; a finished run is not trained twice.
    """
    with _one_line_errors():
        task = _configured(config, context.args, backbone)
        data = load_data(task)
        for note in data.notes:
            errors.print(f"note: {note}", style="yellow", markup=False)
        if overwrite:
            discard(output)
        claim(output, task, data)
        if is_finished(output):
            console.print(f"{output} is finished; nothing to train (--overwrite trains again)")
            trained = load_trained(output)
        else:
            trained = fit(task, data, output)
        metrics = read_json(output / METRICS)
        _print_metrics(metrics)
        if publish is not None:
            _publish(publish, export_task(trained, metrics, data.validation))


@app.command(context_settings=WITH_OVERRIDES)
def evaluate(context: typer.Context, run: RunFolder, backbone: BackboneOption = None) -> None:
    """Score a finished run again on its validation and test splits, overall and per presence pattern.

    Where the data has moved, say so: --data.validation PATH --data.test PATH.
    """
    with _one_line_errors():
        trained, data = _finished(run, context.args, backbone)
        metrics = read_json(run / METRICS) | evaluate_splits(trained, data, draw_tables(trained.config, data))
        write_json(run / METRICS, metrics)
        _print_metrics(metrics)


@app.command(context_settings=WITH_OVERRIDES)
def export(
    context: typer.Context,
    run: RunFolder,
    output: Annotated[Path, typer.Option(help="Folder for the graphs, the head and the manifest.")],
    single_file: Annotated[bool, typer.Option(help="Also write model.onnx: both towers and the head in one.")] = False,
    backbone: BackboneOption = None,
) -> None:
    """Merge the adapter, write the ONNX graphs, and prove on every presence pattern that they agree with PyTorch."""
    with _one_line_errors():
        trained, data = _finished(run, context.args, backbone)
        bundle = export_task(trained, read_json(run / METRICS), data.validation)
        _write_bundle(output, bundle)
        if single_file:
            (output / "model.onnx").write_bytes(export_single_file(trained.model))
        error = max(bundle.draft.graphs["fp32"].max_logit_error.values())  # type: ignore[index]
        console.print(f"exported to {output}; largest difference from PyTorch in a logit: {error:.1e}")


@app.command(context_settings=WITH_OVERRIDES)
def publish(
    context: typer.Context, run: RunFolder, store: StoreOption = DEFAULT_STORE, backbone: BackboneOption = None
) -> None:
    """Export a finished run and make it the live version of its task; a running service picks it up by itself."""
    with _one_line_errors():
        trained, data = _finished(run, context.args, backbone)
        _publish(store, export_task(trained, read_json(run / METRICS), data.validation))


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (TrainingError, StoreError, OSError) as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _configured(path: Path, overrides: list[str], backbone: str | None) -> TaskConfig:
    config = load_config(path, overrides)
    return config if backbone is None else config.model_copy(update={"backbone": backbone})


def _finished(run: Path, overrides: list[str], backbone: str | None) -> tuple[TrainedTask, TaskData]:
    if not is_finished(run):
        raise RunError(f"{run} is not a finished run; give the same `mora-train fit` command again to finish it")
    trained = load_trained(run, backbone)
    config = override(trained.config, overrides)
    data = load_data(config.model_copy(update={"labels": trained.labels}))
    if data.fingerprint != trained.dataset_fingerprint:
        errors.print("note: the data has changed since this run was trained", style="yellow")
    return trained, data


def _publish(root: Path, bundle: Bundle) -> Manifest:
    manifest = publish_to_store(Store(root), bundle.draft, bundle.blobs)
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
    (folder / "manifest.json").write_text(draft.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _print_shown(task: TaskConfig, model: MissingModalityClassifier, classes: int) -> None:
    trained = model.trainable_parameters()
    total = sum(value.numel() for value in model.clip.parameters()) + sum(v.numel() for v in model.head.parameters())
    head = sum(value.numel() for value in model.head.parameters())
    table = Table("", "", show_header=False, box=None)
    mora, vision, text = task.mora, model.clip.config.vision_config, model.clip.config.text_config
    for name, value in {
        "task": f"{task.task} ({task.problem}, {classes} labels)",
        "backbone": task.backbone,
        "parametrization": f"{mora.parametrization}, rank {mora.rank}, scale {mora.scale:g}",
        "projections": ", ".join(mora.target_modules),
        "image layers": f"{model.image_split} to {vision.num_hidden_layers - 1} of width {vision.hidden_size}",
        "text layers": f"{model.text_split} to {text.num_hidden_layers - 1} of width {text.hidden_size}",
        "adapter parameters": f"{trained - head:,}",
        "head parameters": f"{head:,}",
        "trainable parameters": f"{trained:,}  ({trained / total:.3%} of {total:,})",
    }.items():
        table.add_row(name, value)
    console.print(table)


def _print_metrics(metrics: dict[str, Any]) -> None:
    table = Table(title="test")
    rows = metrics["test"]
    columns = list(rows["overall"])
    for column in ["items present", *columns]:
        table.add_column(column, justify="left" if column == "items present" else "right")
    for pattern, scores in rows.items():
        cells = [scores.get(column) for column in columns]
        table.add_row(pattern, *("-" if v is None else f"{v:.4f}" if isinstance(v, float) else str(v) for v in cells))
    console.print(table)
