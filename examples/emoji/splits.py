"""The split of each concept, and the rows of each split."""
# ruff: noqa: S311 (random choice, not secrets)

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Literal

from examples.emoji.changes import Change
from examples.emoji.pictures import TARGET_VENDOR, Pictures

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.3, 0.12  # of the concepts
# The rows of each target. In validation and test, each picture is the target of one row, and so one candidate.
ROWS_OF_TARGET: dict[Split, int] = {"train": 6, "validation": 1, "test": 1}

Row = dict[str, str | bytes | None]


def split_concepts(kinds: Mapping[str, set[str]]) -> dict[str, Split]:
    """The split of each concept; `kinds` are the kinds of its changes.

    The concepts are grouped by their rarest kind, so that all splits have each kind of at least three concepts.
    """
    frequency = Counter(kind for of_concept in kinds.values() for kind in of_concept)
    strata: dict[str, list[str]] = defaultdict(list)
    for concept, of_concept in kinds.items():
        strata[min(of_concept, key=lambda kind: (frequency[kind], kind))].append(concept)
    splits: dict[str, Split] = {}
    for concepts in strata.values():
        concepts.sort(key=lambda concept: hashlib.sha256(concept.encode()).digest())
        tests, validations = (
            max(1, round(share * len(concepts))) if len(concepts) >= len(SPLITS) else 0
            for share in (TEST_SHARE, VALIDATION_SHARE)
        )
        for number, concept in enumerate(concepts):
            splits[concept] = "test" if number < tests else "validation" if number < tests + validations else "train"
    return splits


def choose_rows(changes: Iterable[Change], pictures: Mapping[str, Pictures], rows: int) -> list[Row]:
    """At most so many rows of each target that has a picture, the same for the same pictures.

    The kinds of change take turns, and each query is by another vendor than the target.
    """
    targets = pictures[TARGET_VENDOR].png
    of_target: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if change.target in targets:
            of_target[change.target].append(change)
    chosen = []
    for target in sorted(of_target):
        rng = random.Random(target)
        queries = [
            (change, vendor)
            for change in of_target[target]
            for vendor in pictures
            if vendor != TARGET_VENDOR and change.query in pictures[vendor].png
        ]
        rng.shuffle(queries)
        chosen += [row_of(change, vendor, pictures) for change, vendor in in_turns(queries, rng)[:rows]]
    return chosen


def in_turns(queries: Sequence[tuple[Change, str]], rng: random.Random) -> list[tuple[Change, str]]:
    """One query of each kind of change, in random order, then the next of each kind, and so on."""
    of_kind: dict[str, list[tuple[Change, str]]] = defaultdict(list)
    for change, vendor in queries:
        of_kind[change.kind].append((change, vendor))
    kinds = rng.sample(sorted(of_kind), len(of_kind))
    return [query for turn in zip_longest(*(of_kind[kind] for kind in kinds)) for query in turn if query]


def row_of(change: Change, vendor: str, pictures: Mapping[str, Pictures]) -> Row:
    return {
        "image": pictures[vendor].png[change.query],
        "text": change.text,
        "target_image": pictures[TARGET_VENDOR].png[change.target],
        "change": change.kind,
        "vendor": vendor,
        "emoji": characters(change.query),
        "target_emoji": characters(change.target),
    }


def characters(code: str) -> str:
    return "".join(chr(int(point, 16)) for point in code.split("-"))
