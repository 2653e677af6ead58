"""The tables that `mora-train` prints: a configuration, an import, metrics, a grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table

from model_store import Problem
from model_store.describe.manifest_summary import metric_columns
from training.config import TaskConfig
from training.data.splits import TaskData
from training.model.backbone_sizes import adapter_parameters, first_tail_layers, read_sizes
from training.report.auto_table import AUTO_NOTES, auto_headings, auto_rows
from training.report.scores import baseline_names, count, legend, metric_title, shown
from training.report.tower_changes import tower_changes

if TYPE_CHECKING:  # these modules import torch, which takes seconds
    from training.learning.cross_scenario import Grid
    from training.learning.review_costs import ReviewPlan
    from training.model.import_plan import ImportPlan

_OUTCOMES = ("items", "cost of an item", "reviewed (%)", "wrong without review (%)")
_KINDS = {"peft": "PEFT adapter", "transformers": "fine-tuned checkpoint", "authors": "file of MoRA's authors"}


def print_shown(console: Console, task: TaskConfig, classes: int) -> None:
    """Print the adapted layers and the trained parameters of a configuration. Raises BackboneError."""
    sizes = read_sizes(task.backbone)
    answer = f"vectors of {sizes.features}" if task.problem is Problem.RETRIEVAL else f"{classes} labels"
    adapter, head = adapter_parameters(task, sizes), (2 * sizes.features + 1) * (classes or sizes.features)
    added = adapter if task.method in ("mora", "lora", "dora") else 0
    trained, total = adapter + head, sizes.parameters() + added + head
    image_split, text_split = first_tail_layers(task, sizes.image.layers, sizes.text.layers)
    rows = {
        "task": f"{task.task} ({task.problem}, {answer})",
        "backbone": task.backbone,
        "method": _method(task),
        "image layers": f"{image_split} to {sizes.image.layers - 1} of width {sizes.image.width}",
        "text layers": f"{text_split} to {sizes.text.layers - 1} of width {sizes.text.width}",
        "adapter parameters": f"{adapter:,}",
        "head parameters": f"{head:,}",
        "trainable parameters": f"{trained:,}  ({trained / total:.3%} of {total:,})",
    }
    _print_rows(console, rows)


def print_import_plan(console: Console, import_plan: ImportPlan, source: Path, data: TaskData) -> None:
    """Print the parts that an import takes over and the parts that it trains."""
    task, imported = import_plan.config, import_plan.imported
    fitted = f"fitted on {len(data.train.items):,} items, the towers as they are"
    rows = {
        "task": f"{task.task} ({task.problem}, {len(data.labels)} labels)",
        "source": f"{source} ({_KINDS[imported.kind]})",
        "backbone": task.backbone,
        "changed": f"{len(import_plan.towers)} of its {import_plan.tensors} tensors",
        "image tower": _tower(imported.first_image_layer, import_plan.layers[0]),
        "text tower": _tower(imported.first_text_layer, import_plan.layers[1]),
        "head": "taken as it is" if import_plan.head is not None else fitted,
    }
    _print_rows(console, rows)


def _print_rows(console: Console, rows: dict[str, str]) -> None:
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _tower(first: int, layers: int) -> str:
    below = f"layers below {first} are the backbone's, shared with its other tasks" if first else "shared with no other"
    return f"of {layers} layers; {below}"


def _method(task: TaskConfig) -> str:
    mora = task.mora
    match task.method:
        case "mora":
            without = f" without {mora.without}" if mora.without else ""
            settings = f"mora ({mora.parametrization}{without}), rank {mora.rank}, scale {mora.scale:g}"
        case "lora" | "dora":
            settings = f"{task.method}, rank {mora.rank}"
        case _:
            return task.method
    return f"{settings}, on {', '.join(mora.target_modules)}"


def print_analysis(console: Console, analysis: Mapping[str, Any]) -> None:
    """Print the changes of each tower's weights and the modality gap, from analysis.json."""
    towers = tower_changes(analysis["weights"])
    if towers:
        table = Table("tower", title="means over the weights that training changed, W0 to W")
        ranks = (f"effective\nrank, {matrix}" for matrix in ("W0", "W", "W - W0"))
        for heading in ("weights", "change in\nnorm, %", *ranks):
            table.add_column(heading, justify="right")
        for tower, change in towers.items():
            cells = (f"{rank:.1f}" for rank in change.effective_rank.values())
            table.add_row(tower, count(change.weights), f"{100 * change.relative_change:.2f}", *cells)
        console.print(table)
    else:
        console.print("no weight of the towers has changed: only the head is trained")
    gaps = {"pretrained": analysis["modality_gap"]["before"], "trained": analysis["modality_gap"]["after"]}
    if None in gaps.values():
        console.print("no modality gap: fewer than two test items have both modalities")
        return
    items = count(gaps["trained"]["items"])
    table = Table("towers", title=f"modality gap of {items} test items, features of norm one")
    headings = "distance\nof the means", "angle of\nthe means, °", "image to\nown text, °", "image to\nother texts, °"
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, gap in gaps.items():
        angles = (f"{gap[each]:.1f}" for each in ("angle", "own_angle", "other_angle"))
        table.add_row(name, f"{gap['distance']:.3f}", *angles)
    console.print(table)


def print_metrics(console: Console, metrics: dict[str, Any]) -> None:
    """Print the test scores of metrics.json: a column for each view of the test split, with 95 % intervals."""
    scores = {view: row for view, row in metrics["test"].items() if row["items"]}
    intervals = metrics.get("intervals", {}).get("test", {})
    baselines = metrics.get("baselines", {})
    headings = [f"{view}\n{count(row['items'])} items" for view, row in scores.items()]
    table = Table("", *(Column(heading, justify="right") for heading in headings), title="test, in percent")
    for name in metric_columns(scores.values()):
        if name == "items":
            continue
        cells = (shown(name, row.get(name), intervals.get(view, {}).get(name)) for view, row in scores.items())
        table.add_row(metric_title(name, baselines.get("metric")), *cells)
        for baseline in baseline_names(baselines) if name == baselines.get("metric") else ():
            values = (baselines["test"][view][baseline] for view in scores)
            table.add_row(f"  {baseline}", *(shown(name, value, None) for value in values), style="dim")
    console.print(table)
    for line in legend(metrics, "test"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_auto(console: Console, auto: Mapping[str, Any]) -> None:
    """Print the adapters that were compared, for `auto` of metrics.json."""
    first, *others = auto_headings(auto)
    columns = (Column(heading.replace(" ", "\n"), justify="right") for heading in others)
    table = Table(first, *columns, title="adapters, on validation")
    for cells in auto_rows(auto):
        table.add_row(*cells)
    console.print(table)
    for note in AUTO_NOTES:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def print_review_plan(console: Console, plan: ReviewPlan) -> None:
    """Print the coverage to ask for, and the costs on the test split beside no review and review of all."""
    costs = ", ".join(f"{name} {outcome.cost:.4g}" for name, outcome in plan.expected.items())
    items = count(plan.expected[plan.cheapest].items)
    lines = [f"expected cost of an item, from {items} validation items that did not calibrate the sets: {costs}"]
    if plan.pays:
        lines.append(f"ask for a coverage of {plan.coverage:g}; items whose set has exactly one label need no review")
    else:
        lines.append(f"no coverage is expected to cost less than {plan.cheapest}")
    for view, items_of_view in plan.unsupported.items():
        lines.append(f"{view}: no label sets, so these {items_of_view:,} test items are reviewed at every coverage")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    title = "test, under its missing table"
    table = Table("", "items with", *(Column(name, justify="right") for name in _OUTCOMES), title=title)
    for name, views in plan.test.items():
        for view, row in views.items():
            if row.items:
                shares = (f"{100 * row.reviewed:.1f}", f"{100 * row.wrong:.1f}")
                table.add_row(name if view == "overall" else "", view, count(row.items), f"{row.cost:.4g}", *shares)
        table.add_section()
    console.print(table)


def print_grid(console: Console, grid: Grid) -> None:
    """Print the scores of a grid: one row for each run, one column for each test setting."""
    table = Table("trained on", *grid.tested_on, title=f"{grid.metric} by missing modality of the test split")
    for name, scores in zip(grid.trained_on, grid.scores, strict=True):
        table.add_row(name, *("undefined" if value is None else f"{value:.4f}" for value in scores))
    console.print(table)
