"""Do label sets keep their promise? Random splits of the items that did not choose the model, and the controls.

    mora-train fit examples/openclipart/category.yaml --output build/coverage/category       # and other tasks
    python -m benchmarks.coverage build/coverage/category build/coverage/keywords --page docs/coverage.md

The calibration and test items of a finished run are pooled and divided anew, 20 times. One part calibrates the sets by
the run's rule, the other shows them. A complete item is among the items of every presence pattern. Controls: one
calibration for the items of all patterns together; plain thresholds on uncalibrated scores; a fixed threshold on the
highest score that sends the same share to review; and a test part with the labels of the rarest quarter only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.stats import betabinom

from model_store import Calibration, Pattern, Problem
from model_store.label_sets import LabelSets, quantiles, risk_quantiles
from training.data.calibration_split import set_apart
from training.data.missing import draw_tables
from training.learning.calibration import Answers, joined
from training.learning.encoded_split import encode
from training.learning.formed_sets import served_scores
from training.learning.run_folder import METRICS, read_json
from training.model.file_names import RUN_DESCRIPTION
from training.pipeline.reopen import open_finished
from training.provenance import machine

SPLITS, COVERAGES, SHOWN = 20, (0.8, 0.9, 0.95), 0.9
BEGIN, END = "<!-- benchmarks/coverage.py: begin -->", "<!-- benchmarks/coverage.py: end -->"
_NAMES = {Pattern.BOTH: "image and text", Pattern.IMAGE: "image only", Pattern.TEXT: "text only"}
Numbers: TypeAlias = NDArray[np.float64]
Truth: TypeAlias = NDArray[np.bool_]


class Pool(NamedTuple):
    """Scores (n, C) of items by presence pattern, their true labels (n, C) and the item of each row (n,)."""

    scores: dict[Pattern, Numbers]
    plain: dict[Pattern, Numbers]  # without temperature
    truth: dict[Pattern, Truth]
    item: dict[Pattern, NDArray[np.int64]]


class Subject(NamedTuple):
    """A finished run: its rule and its pooled items."""

    name: str
    problem: Problem
    rule: LabelSets
    pool: Pool
    items: int


class Shown(NamedTuple):
    """What sets of some items show."""

    covered: Numbers  # (n,), of each item: whether the true label, or which share of its true labels, is in its set
    sizes: Numbers  # (n,)
    right: Truth  # (n,), whether the best label is true


def subject_of(folder: Path) -> Subject:
    """Open a run, and encode the items that did not choose its model. Raises TrainingError."""
    trained, data = open_finished(folder, [], None, typer.echo)
    config = trained.config
    divided = set_apart(config, data, draw_tables(config, data))
    if trained.label_sets is None or divided.calibration is None:
        raise typer.BadParameter(f"{folder} has no label sets; its validation split is too small")
    collator = trained.collator()
    parts = [encode(trained.model, split, collator) for split in (divided.calibration, data.test)]
    head, offsets = trained.model.cpu().head, (0, len(divided.calibration.items))
    pool = Pool({}, {}, {}, {})
    for pattern in Pattern:
        answers = [part.of_pattern(head, pattern) for part in parts]
        together = joined(answers)
        pool.scores[pattern] = served_scores(together, trained.calibration[pattern], config.problem)
        pool.plain[pattern] = served_scores(together, Calibration(), config.problem)
        pool.truth[pattern] = _truth(together)
        pool.item[pattern] = np.concatenate(
            [each.item.numpy() + offset for each, offset in zip(answers, offsets, strict=True)]
        )
    items = len(divided.calibration.items) + len(data.test.items)
    return Subject(config.task, config.problem, trained.label_sets, pool, items)


def calibrated(
    subject: Subject, scores: Mapping[Pattern, Numbers], chosen: Truth, *, pooled: bool = False
) -> LabelSets:
    """The sets of the chosen items (items,): of each pattern, or one calibration for all."""
    distances, truth = {}, {}
    for pattern, rows in scores.items():
        own = chosen[subject.pool.item[pattern]]
        distances[pattern], truth[pattern] = subject.rule.nonconformity(rows[own]), subject.pool.truth[pattern][own]
    if pooled:
        distances = dict.fromkeys(Pattern, np.concatenate([*distances.values()]))
        truth = dict.fromkeys(Pattern, np.concatenate([*truth.values()]))
    if subject.problem is Problem.MULTI_LABEL:
        found = {pattern: risk_quantiles(distances[pattern], truth[pattern]) for pattern in Pattern}
    else:
        found = {pattern: quantiles(distances[pattern][truth[pattern]]) for pattern in Pattern}
    return subject.rule.model_copy(update={"by_pattern": found, "by_class": {}})


def shown(
    subject: Subject, sets: LabelSets, scores: Numbers, pattern: Pattern, chosen: Truth, coverage: float
) -> Shown:
    """The sets of the chosen items (n,) of a pattern."""
    rows, truth = scores[chosen], subject.pool.truth[pattern][chosen]
    single = subject.problem is Problem.SINGLE_LABEL
    members = sets.members(rows, pattern, coverage, single=single)
    labels = truth.sum(axis=1)
    covered = np.where(labels == 0, 1.0, (truth & members).sum(axis=1) / np.maximum(labels, 1))
    return Shown(covered, members.sum(axis=1).astype(float), truth[np.arange(len(rows)), rows.argmax(axis=1)])


def splits_of(subject: Subject) -> list[Truth]:
    """For each split, which items calibrate (items,): half of them."""
    return [np.random.default_rng(seed).permutation(subject.items) < subject.items // 2 for seed in range(SPLITS)]


def coverage_rows(subject: Subject) -> list[str]:
    """A row for each pattern and promise: what is reached, and by one calibration for all patterns."""
    rows, scores = [], subject.pool.scores
    splits = [
        (each, calibrated(subject, scores, each), calibrated(subject, scores, each, pooled=True))
        for each in splits_of(subject)
    ]
    for pattern in Pattern:
        for promise in COVERAGES:
            own, pooled, inside = [], [], 0
            for calibrates, sets, together in splits:
                tests = ~calibrates[subject.pool.item[pattern]]
                found = shown(subject, sets, scores[pattern], pattern, tests, promise).covered
                inside += _is_inside(subject, found, int((~tests).sum()), promise)
                own.append(found.mean())
                pooled.append(shown(subject, together, scores[pattern], pattern, tests, promise).covered.mean())
            cells = [f"{promise:.0%}", _percent(own), f"{np.min(own):.1%}", f"{inside} of {SPLITS}", _percent(pooled)]
            rows.append(_row(subject.name, _NAMES[pattern], *cells))
    return rows


def size_rows(subject: Subject) -> list[str]:
    """A row for each pattern at 0.9: sizes beside plain thresholds, and what goes to review."""
    rows = []
    plain = subject._replace(rule=LabelSets(rule="threshold", by_pattern={}))
    splits = [
        (each, calibrated(subject, subject.pool.scores, each), calibrated(plain, subject.pool.plain, each))
        for each in splits_of(subject)
    ]
    for pattern in Pattern:
        sizes, plain_sizes, review, accuracy, threshold_accuracy = [], [], [], [], []
        for calibrates, sets, without in splits:
            tests = ~calibrates[subject.pool.item[pattern]]
            found = shown(subject, sets, subject.pool.scores[pattern], pattern, tests, SHOWN)
            plain_sizes.append(shown(plain, without, subject.pool.plain[pattern], pattern, tests, SHOWN).sizes.mean())
            sure, highest = found.sizes == 1, subject.pool.plain[pattern][tests].max(axis=1)
            surest = np.argsort(-highest, kind="stable")[: int(sure.sum())]  # as many items above a threshold
            sizes.append(found.sizes.mean())
            review.append(1 - sure.mean())
            if sure.any():
                accuracy.append(found.right[sure].mean())
                threshold_accuracy.append(found.right[surest].mean())
        ratio = np.mean(sizes) / np.mean(plain_sizes)
        cells = [f"{np.mean(sizes):.2f}", f"{np.mean(plain_sizes):.2f}", f"{ratio:.2f}", _percent(review)]
        rows.append(_row(subject.name, _NAMES[pattern], *cells, _percent(accuracy), _percent(threshold_accuracy)))
    return rows


def drift_row(subject: Subject) -> str:
    """Coverage at 0.9 of a single-label task if only the labels of the rarest quarter arrive."""
    cells = []
    splits = [(each, calibrated(subject, subject.pool.scores, each)) for each in splits_of(subject)]
    for pattern in Pattern:
        truth, reached = subject.pool.truth[pattern], []
        counts = truth.sum(axis=0)
        rare = np.argsort(counts, kind="stable")[: max(1, len(counts) // 4)]
        for calibrates, sets in splits:
            tests = ~calibrates[subject.pool.item[pattern]] & truth[:, rare].any(axis=1)
            reached.append(shown(subject, sets, subject.pool.scores[pattern], pattern, tests, SHOWN).covered.mean())
        cells.append(_percent(reached))
    return _row(subject.name, *cells)


def cost_rows(divided: Sequence[Path], whole: Sequence[Path]) -> list[str]:
    """A row for each task and pattern: test scores of runs whose validation split was divided, and was not."""
    rows = []
    tasks = {folder: _described(folder) for folder in (*divided, *whole)}
    for task, problem in dict.fromkeys(tasks[folder] for folder in divided):
        score = "macro_f1_calibrated" if problem is Problem.MULTI_LABEL else "accuracy"
        found = [
            [read_json(folder / METRICS)["test"] for folder in folders if tasks[folder][0] == task]
            for folders in (divided, whole)
        ]
        for pattern in Pattern:
            cells = []
            for name in (score, "ece_calibrated"):
                values = [[test[pattern][name] for test in tests] for tests in found]
                difference = 100 * (np.mean(values[0]) - np.mean(values[1]))
                cells += [*map(_mean_and_spread, values), f"{difference:+.1f}"]
            rows.append(_row(task, _NAMES[pattern], *cells))
    return rows


def milliseconds_of(subject: Subject) -> float:
    """The time to form one set."""
    rows, single = subject.pool.scores[Pattern.BOTH], subject.problem is Problem.SINGLE_LABEL
    sets = calibrated(subject, subject.pool.scores, np.ones(subject.items, bool))
    started = time.perf_counter()
    for row in rows:
        sets.members(row, Pattern.BOTH, SHOWN, single=single)
    return 1000 * (time.perf_counter() - started) / len(rows)


def page_part(subjects: Sequence[Subject], cost: Sequence[str] = ()) -> str:
    """The tables, of which that of the cost is given."""
    single = [subject for subject in subjects if subject.problem is Problem.SINGLE_LABEL]
    tables = [
        _table(
            ["task", "items have", "promise", "reached", "lowest split", "splits within their interval", "pooled"],
            [row for subject in subjects for row in coverage_rows(subject)],
        ),
        _table(
            ["task", "items have", "labels in a set", "plain", "ratio", "to review", "right of the rest", "threshold"],
            [row for subject in subjects for row in size_rows(subject)],
        ),
        _table(["task", *_NAMES.values()], [drift_row(subject) for subject in single]),
    ]
    if cost:
        names = ["task", "items have", "score, half", "score, all", "difference"]
        names += ["calibration error, half", "calibration error, all", "difference"]
        tables.append(_table(names, cost))
    rules = ", ".join(f"{subject.name} ({subject.items:,} items): {_rule(subject.rule)}" for subject in subjects)
    longest = max(milliseconds_of(subject) for subject in subjects)
    notes = f"{SPLITS} splits. Rules chosen on validation: {rules}. Forming a set takes {longest:.3f} ms; {machine()}."
    return "\n\n".join([*tables, notes])


def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of `mora-train fit`.")],
    more: Annotated[list[Path] | None, typer.Option(help="Further seeds of these runs, for the cost.")] = None,
    whole: Annotated[list[Path] | None, typer.Option(help="The same tasks with --coverage.share 0.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the tables between the markers of this page.")] = None,
) -> None:
    """Study the label sets of finished runs."""
    cost = cost_rows([*runs, *(more or ())], whole) if whole else ()
    part = page_part([subject_of(run) for run in runs], cost)
    typer.echo(part)
    if page is not None:
        text = page.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        if not begin or not after:
            raise typer.BadParameter(f"{page} has no lines {BEGIN} and {END}")
        page.write_text(f"{before}{BEGIN}\n\n{part}\n\n{END}{after}", encoding="utf-8")


def _truth(answers: Answers) -> Truth:
    targets = answers.targets.numpy()
    if targets.ndim == 2:
        return np.asarray(targets.astype(bool))
    return np.asarray(np.arange(answers.logits.shape[1]) == targets[:, np.newaxis])


def _is_inside(subject: Subject, covered: Numbers, calibrating: int, promise: float) -> bool:
    """Whether a split is within the 95 % interval around its promise, or above it.

    Single-label: beta-binomial, since the quantile of n items has a coverage that varies as Beta does. Multi-label: a
    normal interval from the variance of both parts.
    """
    tested = len(covered)
    if subject.problem is Problem.MULTI_LABEL:
        return bool(covered.mean() >= promise - 1.96 * covered.std() * (1 / tested + 1 / calibrating) ** 0.5)
    rank = int(np.ceil((calibrating + 1) * promise))
    return bool(covered.sum() >= betabinom(tested, rank, calibrating + 1 - rank).ppf(0.025))


def _rule(sets: LabelSets) -> str:
    return sets.rule if sets.rule != "regularised" else f"regularised ({sets.penalty:g} after {sets.free_ranks})"


def _described(folder: Path) -> tuple[str, Problem]:
    """The task and the problem of a run."""
    config = read_json(folder / RUN_DESCRIPTION)["task_config"]
    return config["task"], Problem(config["problem"])


def _mean_and_spread(scores: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{np.mean(scores):.1%} ± {100 * np.std(scores, ddof=1):.1f}" if len(scores) > 1 else f"{scores[0]:.1%}"


def _percent(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1%}" if values else "-"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(names: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([_row(*names), _row(*["---"] * len(names)), *rows])


if __name__ == "__main__":
    typer.run(main)
