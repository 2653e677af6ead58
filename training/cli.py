"""`mora-train`: data, show, fit, import, evaluate, analyse, compare, export, publish.

Torch and transformers take seconds to import. So the commands that train import their modules themselves, after the
configuration and the data are checked.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from safetensors import SafetensorError
from typer.core import TyperCommand

from model_store import DEFAULT_STORE, Precision, Problem, Store, StoreError, read_signing_key
from model_store.command_line import OneLineUsageErrors, VersionFlag
from model_store.messages import describe_os_error, printable, quoted
from model_store.output_files import ForceOption, check_folder, check_output_file, check_output_folder
from model_store.store_options import StoreOption, store_folder
from training.config import TaskConfig, load_config
from training.data.missing import draw_tables
from training.data.splits import TaskData, load_data
from training.errors import ConfigError, TrainingError
from training.learning.compared_methods import ALL, METHODS, NAMES
from training.learning.cut_texts import cut_text_notes
from training.learning.processes import is_main_process, process_count
from training.learning.run_folder import METRICS, is_finished, read_json, read_report, require_finished
from training.model.backbone_sizes import check_backbone
from training.model.input_preview import local_preview, open_preview
from training.report.console import (
    print_analysis,
    print_auto,
    print_grid,
    print_import_plan,
    print_metrics,
    print_review_plan,
    print_shown,
)

if TYPE_CHECKING:
    from training.export.bundle import Bundle
    from training.learning.runs import TrainedTask


class OneLineErrors(OneLineUsageErrors):
    """Commands whose errors are printed as one line, which names the cause and the cure."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer does not export the context's class
        try:
            return super().invoke(ctx)
        except (TrainingError, StoreError, MemoryError, OSError, RuntimeError, SafetensorError) as error:
            message = _message(error)
            if message is None:
                raise
            errors.print(f"error: {_lines(message)}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("stopped; the same command goes on from here", markup=False)
            raise typer.Exit(130) from None


class ManyValues(TyperCommand):
    """A command whose repeatable options may be written once: `--seeds 0 1 2` is `--seeds 0 --seeds 1 --seeds 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        repeatable = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        expanded: list[str] = []
        option: str | None = None
        for word in args:
            if word.startswith("--"):
                option = word if word in repeatable else None
            if option is None:
                expanded.append(word)
            elif word != option:
                expanded += [option, word]
        return super().parse_args(ctx, expanded)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune a vision-language model with MoRA for items whose image or text may be missing, and publish it.",
)
console = Console()
errors = Console(stderr=True)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the task; see training/configs/.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Run directory, as of `fit --output DIR`.")]


def _minutes(text: str) -> float:
    minutes = float(text)  # typer reports a ValueError
    if not 0 < minutes < math.inf:
        raise typer.BadParameter(f"{text} is not a number of minutes above 0")
    return minutes


def _points(text: str) -> float:
    points = float(text)  # typer reports a ValueError
    if not points >= 0:  # also NaN
        raise typer.BadParameter(f"{text} is not a number of points from 0 on")
    return points


def _cost(text: str) -> float:
    cost = float(text)  # typer reports a ValueError
    if not 0 < cost < math.inf:
        raise typer.BadParameter(f"{text} is not a cost above 0")
    return cost


BackboneOption = Annotated[str | None, typer.Option(help="Directory or hub id that replaces the configured one.")]
SignOption = Annotated[
    Ed25519PrivateKey | None,
    typer.Option(
        "--sign-with",
        metavar="KEY",
        parser=lambda path: read_signing_key(Path(path)),  # at once: a wrong key is refused before hours of training
        help="Private key to sign the version with; `mora-store keygen`.",
    ),
]
OutputOption = Annotated[Path, typer.Option(help="Run directory: adapter, missing tables, metrics.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Discard the run in the run directory.")]
SearchOption = Annotated[
    float | None,
    typer.Option(metavar="MINUTES", parser=_minutes, help="Search learning rate, depth and rank first, for so long."),
]
FoldsOption = Annotated[
    int | None, typer.Option(metavar="K", min=2, help="Cross-validate with K fits instead; publishes nothing.")
]
PublishOption = Annotated[
    Path | None,
    typer.Option(metavar="STORE", parser=store_folder, help="Model store to publish a new live version to."),
]
MaxLossOption = Annotated[
    float,
    typer.Option(
        metavar="POINTS",
        parser=_points,
        help="A version that is worse than the live one by more, on any presence pattern, does not become live.",
    ),
]
WITH_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
ANY_FIELD = (
    "Any field of the configuration is a flag too, with dots for groups and a YAML value: --train.epochs 3 "
    '--mora.rank=8 --export.precisions "\\[int8, fp16]" --labels "\\[bag, hat]" --data.text null'
)
NOT_LIVE = 3  # exit status: the version is published, but the live one stays
CHANGEABLE = (
    "The fields --data.*, --export.* and --publish.* of the configuration are flags too: --data.test PATH "
    "--publish.examples false"
)


@app.callback()
def one_process(context: typer.Context, version: VersionFlag = False) -> None:
    """Refuse commands under torchrun whose processes would all write the same files."""
    command, processes = context.invoked_subcommand, process_count()
    if processes > 1 and command not in ("fit", "compare"):
        raise ConfigError(f"`mora-train {command}` runs in one process, not in {processes}; start it without torchrun")


@app.command(context_settings=WITH_FLAGS, epilog=ANY_FIELD)
def show(context: typer.Context, config: ConfigFile, backbone: BackboneOption = None) -> None:
    """Print the layers and the number of parameters that would be trained.

    Of the backbone it needs config.json alone. It reads the data to count the labels, unless the configuration names
    them (`labels`).
    """
    task = _configured(config, context.args, backbone)
    labels = task.labels or (() if task.problem is Problem.RETRIEVAL else load_data(task).labels)
    print_shown(console, task, len(labels))


@app.command("fit", context_settings=WITH_FLAGS, epilog=ANY_FIELD)
def fit_command(
    context: typer.Context,
    config: ConfigFile,
    output: OutputOption,
    publish: PublishOption = None,
    max_loss: MaxLossOption = 1.0,
    sign_with: SignOption = None,
    overwrite: OverwriteOption = False,
    search: SearchOption = None,
    folds: FoldsOption = None,
    backbone: BackboneOption = None,
) -> None:
    """Train, evaluate and, with --publish, put the task live.

    The same command given again resumes a killed run after its last epoch. A finished run is not trained again, and a
    published run is not published again. A version that is clearly worse than the live one is published, but does not
    become live; the exit status is then 3.

    With --search, fits of other learning rates, depths and ranks come first, and the one that is best on the
    validation split is trained. The test split is used for that last run alone.

    With --folds, the configuration is scored by cross-validation, for data that is too small for one test split. No
    model is kept or published; an ordinary `fit` trains one afterwards.
    """
    if (search or folds) and process_count() > 1:
        raise ConfigError("--search and --folds run in one process; start the command without torchrun")
    others = {"--publish": publish, "--sign-with": sign_with, "--search": search}
    if folds is not None and (given := [name for name, value in others.items() if value is not None]):
        raise ConfigError(f"--folds keeps no model, so {given[0]} needs a command of its own, without --folds")
    _check_publishing(context, publish)
    task = _configured(config, context.args, backbone)
    data = _loaded(task)
    with _quick_imports():
        from training.pipeline.fit import fit
    if folds is not None:
        from training.pipeline.cross_validation import cross_validate
        from training.report.tuning_tables import print_folds

        print_folds(console, cross_validate(task, data, folds, output, _note, overwrite), folds)
        console.print(f"no model is kept; `mora-train fit {quoted(config)} --output DIR` trains one", soft_wrap=True)
        return
    if search is not None:
        if task.mora.auto:
            raise ConfigError("--search and mora.auto both choose the adapter; leave one of them out")
        task = _searched(task, data, output, search, overwrite)
    trained = _finished(output, overwrite, task, data) or fit(task, data, output, _note, overwrite=overwrite)
    if is_main_process():  # one of the processes that torchrun starts
        _finish(trained, data, output, publish, sign_with, max_loss)


@app.command("import", context_settings=WITH_FLAGS, epilog=ANY_FIELD)
def import_command(
    context: typer.Context,
    config: ConfigFile,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Model trained elsewhere: a folder, or the authors' best_model.pt.")
    ],
    output: OutputOption,
    head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="safetensors with weight (C, 2P) and bias (C,), used unchanged.")
    ] = None,
    publish: PublishOption = None,
    max_loss: MaxLossOption = 1.0,
    sign_with: SignOption = None,
    overwrite: OverwriteOption = False,
    backbone: BackboneOption = None,
) -> None:
    """Import a model trained elsewhere: merge, calibrate and evaluate it and, with --publish, put it live.

    CONFIG is the task as for `fit`. Its backbone is the model that SOURCE was made from. Its data is used to calibrate
    and evaluate the model, and to fit a head if SOURCE has none. SOURCE is one of three kinds:

    A PEFT adapter (LoRA, DoRA), a folder with adapter_config.json:
    mora-train import shop.yaml my-lora/ --output runs/shop

    A fine-tuned CLIPModel or SiglipModel, a folder with config.json:
    mora-train import shop.yaml my-clip/ --output runs/shop --head head.safetensors --labels "\\[bag, hat]"

    The file that the code of MoRA's authors writes:
    mora-train import food101.yaml checkpoints/best_model.pt --output runs/food101 --publish model_store

    A head in SOURCE or in --head is used unchanged; list `labels` in its order. Without a head, one is fitted on the
    training data. Layers that equal the backbone's stay shared with its other tasks.
    """
    _check_publishing(context, publish)
    task = _configured(config, context.args, backbone)
    if task.problem is Problem.RETRIEVAL:
        cure = "train it with `mora-train fit`; --backbone takes the fine-tuned towers, saved as a whole model"
        raise ConfigError(
            f"`mora-train import` takes models that answer with labels, and {task.task} is a retrieval task; {cure}"
        )
    check_backbone(task)
    with _quick_imports():
        from training.model.import_plan import plan_import
        from training.pipeline.fit import import_model
    import_plan = plan_import(task, source, head)
    data = _loaded(import_plan.config)
    _note(*import_plan.notes)
    print_import_plan(console, import_plan, source, data)
    trained = _finished(output, overwrite, import_plan.config, data)
    trained = trained or import_model(import_plan, data, output, _note, overwrite)
    _finish(trained, data, output, publish, sign_with, max_loss)


@app.command(context_settings=WITH_FLAGS, epilog=CHANGEABLE)
def evaluate(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run directories, as of `fit --output DIR`.")],
    grid: Annotated[bool, typer.Option("--grid", help="Test runs under every kind of missingness.")] = False,
    output: Annotated[Path, typer.Option(help="With --grid: folder for grid.json and grid.svg.")] = Path(),
    force: ForceOption = False,
    error_cost: Annotated[
        float | None, typer.Option(metavar="COST", parser=_cost, help="Cost of a wrong answer without review.")
    ] = None,
    review_cost: Annotated[
        float | None, typer.Option(metavar="COST", parser=_cost, help="Cost of a review, by default 1.")
    ] = None,
    backbone: BackboneOption = None,
) -> None:
    """Score a finished run again on its validation and test splits, overall and per presence pattern.

    With --grid, each run is a row of a table, and each kind of missingness of the test split a column. The runs are of
    one task, trained on different kinds of missingness (--missing.train.type and --missing.train.ratio of `fit`).

    With --error-cost, the command prints the coverage to ask for: the one at which wrong answers and reviews together
    cost least, if a person reviews each item whose label set has not exactly one label.

    If the data has moved, add its new paths after DIR: --data.validation PATH --data.test PATH.
    """
    folders = [*itertools.takewhile(lambda word: not str(word).startswith("--"), runs)]
    flags = [str(word) for word in runs[len(folders) :]]
    if not folders:
        raise ConfigError(f"DIR comes first, then flags such as {flags[0]}")
    if review_cost is not None and error_cost is None:
        raise ConfigError("--review-cost needs --error-cost, the cost of a wrong answer")
    if not grid and (given := [name for name in ("output", "force") if _is_given(context, name)]):
        raise ConfigError(f"--{given[0]} is for the files of --grid; add --grid, or leave it out")
    if grid and error_cost is not None:
        raise ConfigError("--grid and --error-cost print different tables; give one of them")
    for folder in folders:
        require_finished(folder)
    with _quick_imports():
        from training.learning.cross_scenario import cross_scenario
        from training.learning.review_costs import Costs
        from training.pipeline.reopen import GRID_FILES, evaluate_again, open_finished, plan_reviews, write_grid
    if grid:
        check_output_folder(output, force=force, names=GRID_FILES)
    opened = [(folder, *open_finished(folder, flags, backbone, _note)) for folder in folders]
    if grid:
        scores = cross_scenario([(folder.name, trained, data) for folder, trained, data in opened])
        print_grid(console, scores)
        write_grid(output, scores)
        return
    if error_cost is not None:
        for folder, trained, data in opened:
            print_review_plan(console, plan_reviews(folder, trained, data, Costs(error_cost, review_cost or 1.0)))
        return
    for folder, trained, data in opened:
        metrics, saved = evaluate_again(folder, trained, data)
        if not saved:
            _note(f"{folder / METRICS} keeps the scores on the data that the run was trained with")
        print_metrics(console, metrics)


@app.command(context_settings=WITH_FLAGS, epilog=CHANGEABLE)
def analyse(context: typer.Context, run: RunFolder, backbone: BackboneOption = None) -> None:
    """Show what training changed in the towers of a run: their weights, MoRA's Gram matrices, the modality gap.

    It prints two tables, adds a section with plots to the run's report.html, and writes the singular values and
    eigenvalues into its analysis.json.
    """
    require_finished(run)
    with _quick_imports():
        from training.pipeline.analyse import analyse as analyse_run
        from training.pipeline.reopen import open_finished
    trained, data = open_finished(run, context.args, backbone, _note)
    analysis, saved = analyse_run(run, trained, data)
    print_analysis(console, analysis)
    _note(f"{run} {'has the plots in report.html' if saved else 'keeps its report: it was trained with other data'}")


@app.command("compare", cls=ManyValues, context_settings=WITH_FLAGS, epilog=ANY_FIELD)
def compare_command(
    context: typer.Context,
    config: ConfigFile,
    methods: Annotated[list[str], typer.Option(help=f"Any of: {', '.join(NAMES)}; or all.")] = ["all"],  # noqa: B006
    seeds: Annotated[list[int], typer.Option(help="Each seed draws initial weights and missing tables.")] = [0, 1, 2],  # noqa: B006
    partitions: Annotated[
        list[int] | None,
        typer.Option(help="Train on other splits of data.train for each `data.seed` named, and pair over them."),
    ] = None,
    search: Annotated[str, typer.Option(help="Searched for each method: learning_rate, or nothing.")] = "learning_rate",
    output: Annotated[Path | None, typer.Option(help="Folder; by default runs/compare-TASK.")] = None,
    backbone: BackboneOption = None,
    backbones: Annotated[
        list[str] | None, typer.Option(help="Several directories or hub ids: compare the methods on each of them.")
    ] = None,
) -> None:
    """Train several methods alike and compare them in comparison.md, comparison.json and comparison.svg.

    The learning rate of each method is searched on the validation split with the first seed: three rates around the
    configured one, and further rates while the best is at an edge. `ours` is the unchanged configuration, and
    `ours-auto` the same with `mora.auto`, which `all` leaves out. The other methods use its data, epochs and batches.
    When the command is given again, finished runs are kept.

    `majority`, `tfidf` and `hog` are yardsticks, which need no backbone: the most frequent label, character n-grams of
    the text, and gradients and colours of the picture. They see the same cells as the methods, and their C is
    searched in place of a learning rate.

    Without --partitions, all seeds are scored on the same test items, so the intervals leave out how much other items
    would change. With it, the search uses the first partition.

    With --backbones, the methods are compared on each backbone in a folder of its own, and backbones.md,
    backbones.json and backbones.svg compare the backbones.
    """
    if backbone is not None and backbones:
        raise ConfigError("--backbone and --backbones exclude each other; name every backbone in --backbones")
    if search not in ("learning_rate", "nothing"):
        raise ConfigError(f"--search: {search!r} cannot be searched; give learning_rate or nothing")
    names = methods
    named: list[str | None] = [*backbones] if backbones else [backbone]
    tasks = [_configured(config, context.args, each) for each in named]
    if methods == ["all"]:  # yardsticks answer with labels
        names = [name for name in ALL if name in METHODS or tasks[0].problem is not Problem.RETRIEVAL]
    folder = output or Path("runs") / f"compare-{tasks[0].task}"
    data = _loaded(tasks[0])
    for task in tasks[1:]:
        check_backbone(task)
    with _quick_imports():
        from training.pipeline.compare import Runs, compare, compare_backbones, partitions_of
        from training.report.comparison_report import write_backbones, write_comparison
    command = ["compare", str(config), "--methods", *methods, "--seeds", *map(str, seeds), "--search", search]
    command += ["--output", str(folder)]
    settings = names, list(dict.fromkeys(seeds)), search == "learning_rate"
    of_backbones = [Runs(task, data, folder, _note) for task in tasks]
    runs = [[each] for each in of_backbones]
    if partitions:
        command += ["--partitions", *map(str, partitions)]
        runs = partitions_of(of_backbones, list(dict.fromkeys(partitions)), load_data)
    write: Callable[[Path, Mapping[str, Any], Sequence[str]], None]
    if backbones:
        compared, write, page = compare_backbones(runs, *settings), write_backbones, "backbones.md"
        command += ["--backbones", *backbones]
    else:
        compared, write, page = compare(runs[0], *settings), write_comparison, "comparison.md"
        command += ["--backbone", backbone] if backbone else []
    if is_main_process():
        write(folder, compared, [*command, *context.args])
        from rich.markdown import Markdown

        console.print(Markdown((folder / page).read_text(encoding="utf-8")))


@app.command(context_settings=WITH_FLAGS, epilog=CHANGEABLE)
def export(
    context: typer.Context,
    run: RunFolder,
    output: Annotated[Path, typer.Option(help="Folder for the graphs, the head and the manifest.")],
    single_file: Annotated[bool, typer.Option(help="Also write model.onnx: both towers and the head in one.")] = False,
    force: ForceOption = False,
    backbone: BackboneOption = None,
) -> None:
    """Merge the adapter, write the ONNX graphs, and check on every presence pattern that they agree with PyTorch.

    A precision other than fp32 is written if it is expected to cost no pattern more than a budget, in points:
    --export.precisions "\\[int8, fp16]" --export.accuracy_budget 0.5
    """
    require_finished(run)
    check_output_folder(output, force=force)
    with _quick_imports():
        from training.export.onnx_graphs import export_single_file
        from training.pipeline.reopen import open_finished
    trained, data = open_finished(run, context.args, backbone, _note)
    if single_file and trained.config.problem is Problem.RETRIEVAL:
        raise ConfigError("--single-file is for tasks with labels; leave it out")
    bundle = _export(trained, data, run)
    bundle.write(output)
    if single_file:
        (output / "model.onnx").write_bytes(export_single_file(trained.model))
    error = max(bundle.draft.graphs[Precision.FP32].max_logit_error.values())
    console.print(f"exported to {output}; largest difference of a logit from PyTorch: {error:.1e}")


@app.command(context_settings=WITH_FLAGS, epilog=CHANGEABLE)
def publish(
    context: typer.Context,
    run: RunFolder,
    store: StoreOption = DEFAULT_STORE,
    max_loss: MaxLossOption = 1.0,
    sign_with: SignOption = None,
    backbone: BackboneOption = None,
) -> None:
    """Export a finished run and make it the live version of its task; a running service picks it up by itself.

    A version that is clearly worse than the live one does not become live, and the exit status is 3.
    """
    require_finished(run)
    _check_store(store, "--store")
    with _quick_imports():
        from training.pipeline.reopen import open_finished
    trained, data = open_finished(run, context.args, backbone, _note)
    _publish(store, _export(trained, data, run, store), sign_with, max_loss)


@app.command("data", context_settings=WITH_FLAGS, epilog=ANY_FIELD)
def data_command(
    context: typer.Context,
    config: ConfigFile,
    output: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw examples as the model sees them.")] = None,
    force: ForceOption = False,
    backbone: BackboneOption = None,
) -> None:
    """Count the items and labels of the data, note what looks like a mistake and, with --output, draw examples."""
    if output is not None:
        if output.suffix.lower() != ".png":
            raise ConfigError(f"--output {output}: the examples are a PNG file; choose a name that ends in .png")
        check_output_file(output, force=force)
    task = _configured(config, context.args, backbone)
    data = load_data(task)
    tables = draw_tables(task, data)
    from training.report.overview import contact_sheet, print_overview

    preview = local_preview(task.backbone) if output is None else open_preview(task.backbone)
    unmeasured = f"texts were not measured: this machine has no usable tokenizer.json of {task.backbone}"
    notes = [unmeasured] if preview is None else cut_text_notes(data, preview)
    print_overview(task, replace(data, notes=(*data.notes, *notes)), tables, console)
    if output is not None and preview is not None:
        contact_sheet(data, tables["train"], preview).save(output, "PNG")
        console.print(f"examples of train as the model sees them: {output}", soft_wrap=True)


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Import without garbage collection: it takes a quarter of the time, and what modules define is no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # later collections leave it out
        gc.enable()


def _message(error: Exception) -> str | None:
    """The cause and the cure; None for a bug in this program, which keeps its traceback."""
    if isinstance(error, OSError):
        return describe_os_error(error)
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which may not be imported
        return "the GPU has too little memory; give the command again with a smaller batch, --train.batch_size 64"
    cause = str(error).partition("\n")[0]
    if isinstance(error, SafetensorError) and "deserializing" in cause:
        return f"a file of weights is damaged: {cause}; copy it again, or repeat the command that wrote it"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # of Python and NumPy, and of torch
        return "this machine has too little memory; try again with a smaller --train.batch_size or --mora.rank"
    if isinstance(error, SafetensorError) or "PytorchStreamWriter" in str(error):  # both report a full disk
        return f"a checkpoint could not be written: {cause}; make room on the disk and give the same command again"
    return None if isinstance(error, RuntimeError) else str(error)


def _lines(text: str) -> str:
    """The lines of a message, in which names from a file may contain terminal escapes."""
    return "\n".join(map(printable, text.split("\n")))


def _note(*texts: str) -> None:
    for text in texts if is_main_process() else ():
        errors.print(f"note: {_lines(text)}", style="yellow", markup=False, soft_wrap=True)


def _configured(path: Path, flags: list[str], backbone: str | None) -> TaskConfig:
    return load_config(path, flags if backbone is None else [*flags, f"--backbone={json.dumps(backbone)}"])


def _check_publishing(context: typer.Context, store: Path | None) -> None:
    """Refuse, before the training, a store that cannot be one, and options of --publish without it."""
    if store is not None:
        _check_store(store, "--publish")
        return
    for option in ("sign_with", "max_loss"):
        if _is_given(context, option):
            raise ConfigError(f"--{option.replace('_', '-')} is for what --publish publishes; add --publish STORE")


def _is_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _check_store(store: Path, option: str) -> None:
    check_folder(store / "tasks", f"name the folder of a store with {option}")


def _loaded(task: TaskConfig) -> TaskData:
    check_backbone(task)
    data = load_data(task)
    _note(*data.notes, *cut_text_notes(data, open_preview(task.backbone)))
    return data


def _searched(task: TaskConfig, data: TaskData, output: Path, minutes: float, overwrite: bool) -> TaskConfig:
    """The configuration that is best on the validation split."""
    from training.pipeline.search import discard_search, search, search_folder
    from training.report.tuning_tables import print_trials

    folder = search_folder(output)
    if overwrite:
        discard_search(folder)
    found = search(task, data, folder, minutes, _note)
    print_trials(console, found)
    return found.config


def _finished(run: Path, overwrite: bool, task: TaskConfig, data: TaskData) -> TrainedTask | None:
    """The run of an earlier command, unless it is to be trained again."""
    if overwrite or not is_finished(run):
        return None
    from training.pipeline.reopen import reopen

    trained = reopen(run, task, data)
    console.print(f"{run} is finished; nothing to train (--overwrite trains again)")
    return trained


def _finish(
    trained: TrainedTask,
    data: TaskData,
    run: Path,
    store: Path | None,
    signing_key: Ed25519PrivateKey | None,
    max_loss: float,
) -> None:
    metrics = read_json(run / METRICS)
    if "auto" in metrics:
        print_auto(console, metrics["auto"])
    print_metrics(console, metrics)
    if store is not None:
        bundle = _export(trained, data, run, store)
        if not _was_published(store, bundle):
            _publish(store, bundle, signing_key, max_loss)


def _export(trained: TrainedTask, data: TaskData, run: Path, store: Path | None = None) -> Bundle:
    from training.export.bundle import export_task
    from training.learning.item_scores import read_item_scores

    report, test_scores = _published_report(trained, run), read_item_scores(run)
    known = None if store is None else Store(store)
    bundle = export_task(trained, read_json(run / METRICS), data, report, test_scores, known)
    for precision_check in bundle.precision_checks:
        console.print(str(precision_check), markup=False, highlight=False, soft_wrap=True)
    return bundle


def _published_report(trained: TrainedTask, run: Path) -> bytes | None:
    from training.report.html_report import published_report

    settings = trained.config.publish
    if not settings.report:
        return None
    report = published_report(read_report(run), settings.examples)
    if report is None:
        cure = "to publish one, train again with --overwrite"
        _note(f"published without the report of {run}: an earlier version made it, with absolute paths; {cure}")
    return report


def _was_published(root: Path, bundle: Bundle) -> bool:
    """Whether the store has this run already, so that it does not change. Exits with 3 if that version is not live."""
    from training.pipeline.publish_gate import published_before

    store, task = Store(root), bundle.draft.task
    version = published_before(store, bundle.draft)
    if version is None:
        return False
    if store.live(task) == version:
        console.print(f"{task} version {version} is live in {root}: this run was published before", soft_wrap=True)
        return True
    activate = f"mora-store activate {task} {version} --store {quoted(root)}"
    message = f"{task} version {version} in {root} is this run, but is not live; to make it live: {activate}"
    errors.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(NOT_LIVE)


def _publish(root: Path, bundle: Bundle, signing_key: Ed25519PrivateKey | None, max_loss: float) -> None:
    """Publish a version. It becomes live unless it is worse than the live one or the task is withdrawn: exit with 3."""
    from training.pipeline.publish_gate import publish_unless_worse

    store = Store(root)
    manifest, decision = publish_unless_worse(
        store, bundle.draft, bundle.blobs, bundle.test_scores, max_loss, signing_key
    )
    for line in decision.comparison:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _note(*decision.warnings)
    version, problem = f"{manifest.task} version {manifest.version}", None
    if decision.worse:
        problem = f"worse than the live one by more than --max-loss {max_loss:g}: {', '.join(decision.worse)}"
    elif store.is_withdrawn(manifest.task):
        problem = "the task is withdrawn"
    if problem is None:
        console.print(f"{version} is live in {root}")
        return
    activate = f"mora-store activate {manifest.task} {manifest.version} --store {quoted(root)}"
    message = f"{version} is published in {root}, but is not live ({problem}); to make it live: {activate}"
    errors.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(NOT_LIVE)


if __name__ == "__main__":  # for torchrun -m training.cli
    app()
