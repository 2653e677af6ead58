"""Tables of tasks and of one version, as `mora-store` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from model_store.describe.manifest_summary import (
    FEW_ITEMS,
    adaptation,
    calibration_rows,
    highest_coverage,
    interval_of,
    logit_error,
    metric_columns,
    metric_name,
)
from model_store.manifest import Manifest

_SHOWN_LABELS = 8


def plain(text: str) -> str:
    """One printable line: a manifest from another source may contain line breaks or terminal escapes."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def size(count: int) -> str:
    """A number of bytes with its unit, in powers of 1000."""
    return f"{count} B" if count < 1000 else decimal(count)


def task_table(rows: Sequence[Mapping[str, JsonValue]]) -> Table:
    """One row per task, from the rows of `mora-store list --json`."""
    table = _table("Task", "Live", "Versions", "Problem", "Labels", "Size")
    for row in rows:
        versions, labels, count = row["versions"], row.get("labels"), row.get("bytes")
        problem = "damaged: run mora-store verify" if "error" in row else row.get("problem")
        label_count = len(labels) if isinstance(labels, list) else None
        total = size(count) if isinstance(count, int) else None
        numbers = _range(versions) if isinstance(versions, list) else None
        live = "withdrawn" if row.get("withdrawn") else row["live"]
        _add(table, row["task"], live, numbers, problem, label_count, total)
    return table


def summary(manifest: Manifest, *, is_live: bool, signature: str) -> Group:
    """One version: facts with the status of its `signature`, metrics, calibration and graphs.

    A retrieval task has no calibration.
    """
    calibration = [_calibration(manifest)] if manifest.labels else []
    return Group(_facts(manifest, is_live, signature), _metrics(manifest), *calibration, _graphs(manifest))


def _facts(manifest: Manifest, is_live: bool, signature: str) -> Table:
    made = manifest.provenance
    labels = ", ".join(manifest.labels[:_SHOWN_LABELS])
    if len(manifest.labels) > _SHOWN_LABELS:
        labels += f", ... ({len(manifest.labels)} in all)"
    table = Table(show_header=False, box=None)
    for name, value in {
        "task": manifest.task,
        "version": f"{manifest.version} ({'live' if is_live else 'not live'})",
        "signature": signature,
        "problem": manifest.problem.value,
        **(
            {"labels": labels}
            if manifest.embedding_size is None
            else {"answer": f"a vector of {manifest.embedding_size} numbers and length 1"}
        ),
        "backbone": f"{manifest.backbone.name}, {adaptation(manifest.backbone)}",
        "text": f"at most {manifest.text.max_length} tokens",
        "training mix": ", ".join(f"{pattern} {share:.0%}" for pattern, share in manifest.training_mix.items()),
        "made": f"{made.created_at:%Y-%m-%d %H:%M:%S %Z}, code {made.code_version}, seed {made.seed}",
        "dataset": made.dataset_fingerprint,
        "packages": ", ".join(f"{name} {version}" for name, version in made.packages.items()),
    }.items():
        _add(table, name, value)
    return table


def _metrics(manifest: Manifest) -> Table:
    views = list(dict.fromkeys(view for rows in manifest.metrics.values() for view in rows))
    title = f"Metrics{', with 95 % intervals' if manifest.intervals else ''} (* fewer than {FEW_ITEMS} items)"
    table = _table("Split", "Metric", *views, title=title)
    for split, rows in manifest.metrics.items():
        for name in metric_columns(rows.values()):
            cells = (
                score(name, rows.get(view, {}).get(name), interval_of(manifest, split, view, name)) for view in views
            )
            _add(table, split, metric_name(manifest, name), *cells)
    return table


def _calibration(manifest: Manifest) -> Table:
    table = _table("Items with", "Temperature", "Thresholds", "Label sets", title="Calibration")
    for pattern, *cells in calibration_rows(manifest):
        _add(table, pattern, *cells, highest_coverage(manifest, pattern))
    return table


def _graphs(manifest: Manifest) -> Table:
    names = ("image_trunk", "image_tail", "text_trunk", "text_tail")
    measured = ("Largest logit error", "Worst change", "Expected loss")
    table = _table("Precision", *names, "Own weights", *measured, title="Graphs")
    for precision, graphs in manifest.graphs.items():
        sizes = [size(graphs.blobs()[name].size) for name in names]
        own = [blob.size for blob in (graphs.image_weights, graphs.text_weights) if blob is not None]
        change = min(graphs.metric_change.values(), default=None)
        points = None if change is None else f"{change:+.2f} points"
        highest = max((effect.expected_loss_interval[1] for effect in graphs.effects.values()), default=None)
        loss = None if highest is None else f"up to {highest:.2f} points"
        _add(table, precision, *sizes, size(sum(own)) if own else None, logit_error(graphs), points, loss)
    return table


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(Text(plain(column)), overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(Text("-" if cell is None else plain(str(cell))) for cell in cells))


def number(value: float | None) -> str:
    """A count without decimals, a share with four decimals, an undefined value as a dash."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value.is_integer() and value > 1 else f"{value:.4f}"


def score(metric: str, value: float | None, interval: tuple[float, float] | None) -> str:
    """A score with its interval, if it has one; a number of items with `*` if these are few."""
    if metric == "items" and value is not None:
        return f"{value:.0f}{'*' if 0 < value < FEW_ITEMS else ''}"
    return number(value) + ("" if interval is None else f" ({interval[0]:.4f}\u2013{interval[1]:.4f})")


def _range(versions: Sequence[object]) -> str:
    return ", ".join(map(str, versions)) if len(versions) <= 4 else f"{versions[0]} ... {versions[-1]}"
