"""The model card of a version: a Markdown page with front matter for the Hugging Face hub."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from model_store.describe.front_matter import as_yaml, front_matter
from model_store.describe.manifest_summary import (
    FEW_ITEMS,
    adaptation,
    approach,
    calibration_rows,
    data_sources,
    interval_of,
    logit_error,
    metric_columns,
    metric_name,
)
from model_store.describe.tables import plain, score, size
from model_store.manifest import Manifest, Pattern, Problem

# Markup inside a line: CommonMark, GitHub's tables and links, formulas, HTML.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~$@]|:(?=//)|(?<=www)\.")
_SCORES = {
    Problem.SINGLE_LABEL: "accuracy",
    Problem.MULTI_LABEL: "mean F1 of an item's labels",
    Problem.RETRIEVAL: "recall@1",
}
_PRESENT = {"overall": "overall", "both": "image and text", "image": "image only", "text": "text only"}


def model_card(manifest: Manifest) -> str:
    """The page. Equal manifests give equal pages. All text of the data and of the configuration is escaped."""
    sections = {
        f"{_text(manifest.task)}, version {manifest.version}": _purpose(manifest),
        **({} if manifest.problem is Problem.RETRIEVAL else {"Labels": _labels(manifest)}),
        "With an image, a text, or both": _patterns(manifest),
        **({} if manifest.problem is Problem.RETRIEVAL else {"Calibration": _calibration(manifest)}),
        "Training": _training(manifest),
        "Precisions": _precisions(manifest),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(manifest)),
        "How to use it": _use(manifest),
        "Provenance": _provenance(manifest),
    }
    titled = [f"{'##' if index else '#'} {title}\n\n{body}\n" for index, (title, body) in enumerate(sections.items())]
    return "\n".join([front_matter(manifest), *titled])


def _purpose(manifest: Manifest) -> str:
    answer = "exactly one" if manifest.problem is Problem.SINGLE_LABEL else "any number"
    if manifest.problem is Problem.RETRIEVAL:
        return (
            f"Maps an item that has an image, a text, or both to a vector of {manifest.embedding_size} numbers and "
            "length 1 (retrieval). The target of a query is near it. Made for items of which one of the two is often "
            "missing, by mora-train; mora-serve serves it."
        )
    return (
        f"Answers an item that has an image, a text, or both with {answer} of {len(manifest.labels)} labels "
        f"({approach(manifest)}). Made for items of which one of the two is often missing, by mora-train; mora-serve "
        "serves it."
    )


def _labels(manifest: Manifest) -> str:
    if manifest.problem is Problem.SINGLE_LABEL:
        return _table(["Label"], [[label] for label in manifest.labels])
    thresholds = [[f"{each:.2f}" for each in manifest.calibration[pattern].thresholds or ()] for pattern in Pattern]
    rows = zip(manifest.labels, *thresholds, strict=True)
    intro = "A label is selected where its score reaches the threshold for what the item has."
    return f"{intro}\n\n{_table(['Label', *(_PRESENT[pattern] for pattern in Pattern)], rows)}"


def _patterns(manifest: Manifest) -> str:
    intro = (
        "The tower of a modality that is absent is not run: constants stand in for its features, those of a white "
        "picture and of the empty text.\n\n"
        "*Overall* is the split with the missing modalities of the training configuration; the other rows are every "
        "item that has what they need, with the other modality taken away."
    )
    if manifest.intervals:
        intro += " The 95 % interval of a score stands in brackets."
    if any(0 < (row.get("items") or 0) < FEW_ITEMS for rows in manifest.metrics.values() for row in rows.values()):
        intro += f" An asterisk marks fewer than {FEW_ITEMS} items, of which each moves a score by points."
    tables = []
    for split, rows in manifest.metrics.items():
        names = metric_columns(rows.values())
        cells = [
            [
                _PRESENT.get(key, key),
                *(score(name, row.get(name), interval_of(manifest, split, key, name)) for name in names),
            ]
            for key, row in rows.items()
        ]
        scores = _table(["Items with", *(metric_name(manifest, name) for name in names)], cells)
        tables.append(f"**{_text(split)}**\n\n{scores}")
    return "\n\n".join([intro, *(tables or ["No scores were recorded."])])


def _calibration(manifest: Manifest) -> str:
    squash = "softmax" if manifest.problem is Problem.SINGLE_LABEL else "sigmoid"
    rows = [[_PRESENT[pattern], *cells] for pattern, *cells in calibration_rows(manifest)]
    intro = f"A score is the {squash} of the logits divided by a temperature, which was fitted for each kind of item."
    return f"{intro}\n\n{_table(['Items with', 'Temperature', 'Selected'], rows)}"


def _training(manifest: Manifest) -> str:
    backbone = manifest.backbone
    shares = [[_PRESENT[pattern], f"{share:.0%}"] for pattern, share in manifest.training_mix.items()]
    return "\n\n".join(
        [
            f"Backbone: {_text(backbone.name)} ({backbone.family}), {adaptation(backbone)}; the layers before are as "
            f"they were. Each tower gives {backbone.feature_size} features, and a linear head adds up what they say "
            "for each label.",
            _table(["Training items with", "Share"], shares),
            _table(["Split", "Data"], data_sources(manifest).items()),
            "The configuration, which `mora-train fit` takes once its paths lead to the data:",
            _block(as_yaml(manifest.provenance.config), "yaml"),
        ]
    )


def _precisions(manifest: Manifest) -> str:
    rows = []
    for precision, graphs in manifest.graphs.items():
        count = sum(blob.size for blob in set(graphs.blobs().values()))
        changes = (graphs.metric_change.get(pattern) for pattern in Pattern)
        measured = (None if change is None else f"{change:+.2f}" for change in changes)
        rows.append([precision, size(count), logit_error(graphs), *measured])
    columns = [
        "Precision",
        "Graphs",
        "Largest logit error",
        *(f"Change, {_PRESENT[pattern]}" for pattern in Pattern),
    ]
    if manifest.schema_version == 1:
        items, score = "the validation split", "score that the best epoch was chosen by"
    else:
        items, score = "items of all splits", _SCORES[manifest.problem]
    intro = (
        f"Measured at export on {items}: how far a logit was from PyTorch's (fp32) or from fp32's (the others), and by "
        f"how many points the {score} changed against fp32."
    )
    return "\n\n".join([intro, _table(columns, rows), *_effects(manifest)])


def _effects(manifest: Manifest) -> Iterator[str]:
    """Of each precision below fp32: the items whose answer changed, and the expected loss."""
    rows = []
    for precision, graphs in manifest.graphs.items():
        for pattern, effect in graphs.effects.items():
            low, high = effect.expected_loss_interval
            loss = f"{effect.expected_loss:.2f} ({low:.2f} to {high:.2f})"
            changed = f"{effect.changed_answers} of {effect.items}"
            rows.append([precision, _PRESENT[pattern], changed, f"{effect.mean_logit_error:.1e}", loss])
    if rows:
        yield "Answers that differ from fp32's, and the loss that is to be expected, in points with a 95 % interval:"
        yield _table(["Precision", "Items with", "Answers changed", "Mean logit error", "Expected loss"], rows)


def _limits(manifest: Manifest) -> list[str]:
    height, width = manifest.image.output_size
    limits = [f"Trained once, with seed {manifest.provenance.seed}: how scores differ between seeds is not known."]
    if "validation" in manifest.metrics:
        limits.append(
            "The best epoch was chosen on validation, so its scores flatter."
            if manifest.problem is Problem.RETRIEVAL
            else "The best epoch, the temperatures and the thresholds were chosen on validation, so its scores flatter."
        )
    score = "A recall" if manifest.problem is Problem.RETRIEVAL else "An accuracy"
    for pattern in Pattern:
        items = manifest.metrics.get("test", {}).get(pattern, {}).get("items")
        if items:
            limits.append(
                f"{score} over the {items:.0f} test items with {_PRESENT[pattern]} has a standard error of up to "
                f"{50 / math.sqrt(items):.1f} points."
            )
        else:
            limits.append(
                f"How good the answers to items with {_PRESENT[pattern]} are was not measured on a test split."
            )
        if not manifest.training_mix.get(pattern):
            limits.append(f"No training item had {_PRESENT[pattern]}: such answers are an extrapolation.")
    if manifest.problem is Problem.SINGLE_LABEL:
        limits.append("Every item gets one of the labels, also one that is of no such kind.")
    return [
        *limits,
        "An absent modality is a constant: an answer cannot tell from it why the modality is missing.",
        f"Pictures are seen at {width} x {height} pixels, texts up to {manifest.text.max_length} tokens.",
        "Languages: not recorded. Expect nothing in languages that the training texts and the backbone's are not in.",
        "Licence, and how fair the answers are to groups of people: not recorded. See the backbone's and the data's.",
    ]


def _use(manifest: Manifest) -> str:
    task = manifest.task  # letters, digits, `.`, `_` and `-` only
    if manifest.problem is Problem.RETRIEVAL:
        lines = f"""\
mora-serve run --store DIR
curl -F task={task} -F image=@picture.jpg -F text='some words' localhost:8000/embed
mora-serve embed catalogue.csv vectors.parquet --store DIR --task {task}"""
        return f"DIR is the store that holds this version. Leave out the image or the text.\n\n{_block(lines, 'sh')}"
    commands = f"""\
mora-serve run --store DIR
curl -F task={task} -F image=@picture.jpg -F text='some words' localhost:8000/classify
mora-serve classify --store DIR --task {task} --image picture.jpg --text 'some words'"""
    return f"DIR is the store that holds this version. Leave out the image or the text.\n\n{_block(commands, 'sh')}"


def _provenance(manifest: Manifest) -> str:
    made = manifest.provenance
    rows = {
        "Made": f"{made.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "Code": made.code_version,
        "Seed": made.seed,
        "Data set": made.dataset_fingerprint,
        **made.packages,
    }
    intro = f"`mora-store verify {manifest.task} --version {manifest.version}` checks its files."
    return f"{intro}\n\n{_table(['What', 'Which'], rows.items())}"


def _text(value: object) -> str:
    """A value as text without markup. Characters become entities, because renderers disagree about backslashes."""
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", plain(str(value)))


def _table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table in GitHub's syntax. None is shown as a dash."""
    names = [_text(column) for column in columns]
    lines = [names, ["---"] * len(names), *(["-" if cell is None else _text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(content: str, language: str) -> str:
    """A code block. Its fence is longer than every fence in the content."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"
