"""The gate of publishing: a worse version does not replace the live one, and a missing comparison is explained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from model_store import ItemScores, ManifestDraft, Pattern, Problem, Store, blob_of, publish, publishing, withdraw
from tests.support.tiny import Shelf, TinyDraft
from training.pipeline.publish_gate import decide, publish_unless_worse

ITEMS = 100
NONE = (None,) * ITEMS


def scores(
    right: int | dict[Pattern, int], items: str = "a", majority: int = 0, metric: str = "accuracy", score: float = 1
) -> ItemScores:
    """Of 100 test items, the first ones are right, on every pattern or on each of these."""
    counts = dict.fromkeys(Pattern, right) if isinstance(right, int) else right
    return ItemScores.model_validate(
        {
            "metric": metric,
            "items": items * 64,
            "majority_label": "apple",
            "majority": first(majority),
            "patterns": {p: [score * each for each in first(counts[p])] if p in counts else NONE for p in Pattern},
        }
    )


def first(count: int) -> list[float]:
    return [float(row < count) for row in range(ITEMS)]


def with_scores(draft: TinyDraft, each: ItemScores) -> TinyDraft:
    content = each.model_dump_json().encode()
    changed = draft.replacing(test_scores=blob_of(content))
    return TinyDraft(changed.manifest, {**draft.blobs, blob_of(content).sha256: content})


@pytest.fixture
def live(shelf: Shelf) -> Callable[..., Store]:
    """`live(scores, **changes)`: a store whose live version has these scores."""

    def make(each: ItemScores | None, **changes: object) -> Store:
        draft = shelf.draft().replacing(**changes)
        shelf.publish_draft(draft if each is None else with_scores(draft, each))
        return shelf.store

    return make


@pytest.fixture
def new(shelf: Shelf) -> ManifestDraft:
    return shelf.draft(seed=2).manifest


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("pattern", list(Pattern))
@pytest.mark.parametrize(("before", "after"), [(90, 1), (90, 80), (60, 45)])
def test_a_version_that_is_worse_on_one_pattern_is_worse(
    live: Callable[..., Store], new: ManifestDraft, metric: str, pattern: Pattern, before: int, after: int
) -> None:
    right = dict.fromkeys(Pattern, before)

    decision = decide(live(scores(right, metric=metric)), new, scores(right | {pattern: after}, metric=metric), 1.0)

    assert decision.worse == ({"both": "image and text", "image": "image only", "text": "text only"}[pattern],)
    assert len(decision.comparison) == 4
    assert f"{after}.0 % against {before}.0 %, {after - before:.1f} points (95 % interval -" in "".join(
        decision.comparison
    )


@pytest.mark.parametrize(("before", "after"), [(90, 90), (90, 89), (90, 87), (50, 90), (0, 0), (100, 100)])
def test_a_version_that_is_as_good_or_not_clearly_worse_is_not(
    live: Callable[..., Store], new: ManifestDraft, before: int, after: int
) -> None:
    decision = decide(live(scores(before)), new, scores(after), 1.0)

    assert decision.worse == ()
    assert decision.comparison[0] == "compared with version 1, which is live, on the same test items (accuracy):"


@pytest.mark.parametrize(("max_loss", "is_worse"), [(0, True), (9.9, True), (10, False), (25, False)])
def test_the_user_may_accept_a_loss(
    live: Callable[..., Store], new: ManifestDraft, max_loss: float, is_worse: bool
) -> None:
    assert bool(decide(live(scores(90)), new, scores(80), max_loss).worse) is is_worse


@pytest.mark.parametrize(("score", "is_worse"), [(0.2, True), (0.46, True), (0.491, False), (0.5, False)])
def test_a_small_loss_on_every_item_counts(
    live: Callable[..., Store], new: ManifestDraft, score: float, is_worse: bool
) -> None:
    store = live(scores(100, metric="f1", score=0.5))

    assert bool(decide(store, new, scores(100, metric="f1", score=score), 1.0).worse) is is_worse


@pytest.mark.parametrize("present", [[Pattern.TEXT], [Pattern.IMAGE], [Pattern.IMAGE, Pattern.TEXT]])
def test_patterns_without_items_are_left_out(
    live: Callable[..., Store], new: ManifestDraft, present: Sequence[Pattern]
) -> None:
    decision = decide(live(scores(dict.fromkeys(present, 90))), new, scores(dict.fromkeys(present, 1)), 1.0)

    assert len(decision.worse) == len(present) == len(decision.comparison) - 1


def test_a_version_of_other_labels_problem_or_items_is_not_compared(live: Callable[..., Store], shelf: Shelf) -> None:
    store, draft = live(scores(90)), shelf.draft(seed=2).manifest
    renamed = draft.model_copy(update={"labels": ("apple", "pear", "fig", "date")})
    multi = draft.model_copy(update={"problem": Problem.MULTI_LABEL})

    for manifest, each, reason in (
        (renamed, scores(1), "version 1 has other labels ('fig', 'date' added, 'plum' gone)"),
        (multi, scores(1, metric="f1"), "version 1 is of the problem single_label, the new one of multi_label"),
        (draft, scores(1, items="b"), "version 1 was tested on other items"),
        (draft, None, "an earlier release made this run, without the scores of its test items; `mora-train evaluate"),
    ):
        decision = decide(store, manifest, each, 1.0)
        assert decision.comparison[0].startswith(f"not compared with a live version: {reason}")
        assert decision.worse == ()


@pytest.mark.parametrize("order", [("pear", "apple", "plum"), ("plum", "pear", "apple"), ("apple", "plum", "pear")])
def test_labels_in_another_order_are_the_same_labels(
    live: Callable[..., Store], new: ManifestDraft, order: tuple[str, ...]
) -> None:
    assert decide(live(scores(90), labels=order), new, scores(1), 1.0).worse


def lose_live(store: Store) -> None:
    (store.root / "tasks/fruit/live").unlink()


def withdraw_task(store: Store) -> None:
    withdraw(store, "fruit")


def break_live(store: Store) -> None:
    (store.root / "tasks/fruit/live").write_text("many\n")


def point_nowhere(store: Store) -> None:
    (store.root / "tasks/fruit/live").write_text("7\n")


def damage_manifest(store: Store) -> None:
    (store.root / "tasks/fruit/1/manifest.json").write_text("{}")


def lose_scores(store: Store) -> None:
    scores_path(store).unlink()


def damage_scores(store: Store) -> None:
    scores_path(store).write_bytes(b"x" * scores_path(store).stat().st_size)


def scores_path(store: Store) -> Path:
    manifest = store.manifest("fruit")
    assert manifest.test_scores is not None
    return store.root / "blobs/sha256" / manifest.test_scores.sha256


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lose_live, "the task has none"),
        (withdraw_task, "the task is withdrawn"),
        (break_live, "it is not known which one is live: tasks/fruit/live does not hold a version number"),
        (point_nowhere, "version 7 cannot be read: task fruit has no version 7"),
        (damage_manifest, "version 1 cannot be read: tasks/fruit/1/manifest.json is not a valid manifest"),
        (lose_scores, "version 1 cannot be read: blobs/sha256/"),
        (damage_scores, "version 1 cannot be read: blobs/sha256/"),
    ],
)
def test_a_live_version_that_cannot_be_read_is_not_compared(
    live: Callable[..., Store], new: ManifestDraft, damage: Callable[[Store], None], reason: str
) -> None:
    store = live(scores(90))
    damage(store)

    decision = decide(store, new, scores(1), 1.0)

    assert decision.comparison[0].startswith(f"not compared with a live version: {reason}")
    assert "\n" not in decision.comparison[0]
    assert decision.worse == ()


def test_a_live_version_with_scores_of_another_form_is_not_compared(shelf: Shelf, new: ManifestDraft) -> None:
    draft = shelf.draft()
    content = b'{"scores": [1, 0]}'
    changed = draft.replacing(test_scores=blob_of(content))
    shelf.publish_draft(TinyDraft(changed.manifest, {**draft.blobs, blob_of(content).sha256: content}))

    (line,) = decide(shelf.store, new, scores(1), 1.0).comparison

    assert "version 1 cannot be read: test_scores.json of fruit version 1 is not valid" in line


def test_a_live_version_of_an_earlier_release_is_not_compared(live: Callable[..., Store], new: ManifestDraft) -> None:
    decision = decide(live(None), new, scores(1), 1.0)

    assert decision.comparison == (
        "not compared with a live version: version 1 was published by an earlier release, without the scores of its "
        "test items",
    )


def test_a_store_without_the_task_has_no_live_version(tmp_path: Path, new: ManifestDraft, shelf: Shelf) -> None:
    shelf.publish("tags")

    for store in (Store(tmp_path / "new"), shelf.store):
        assert decide(store, new, scores(90), 1.0).comparison == (
            "not compared with a live version: the task has none",
        )


@pytest.mark.parametrize(
    ("right", "majority", "says"),
    [
        (1, 24, "the version is worse than always answering 'apple': 1.0 % against 24.0 %, -23.0 points"),
        (23, 24, "the version is no better than always answering 'apple': 23.0 % against 24.0 %, -1.0 points"),
        (24, 24, "the version is no better than always answering 'apple': 24.0 % against 24.0 %, +0.0 points"),
        (25, 24, None),
        (100, 0, None),
    ],
)
def test_a_version_below_the_majority_label_is_named_so_without_a_live_version_too(
    tmp_path: Path, new: ManifestDraft, right: int, majority: int, says: str | None
) -> None:
    decision = decide(Store(tmp_path / "new"), new, scores(right, majority=majority), 1.0)

    assert decision.worse == ()
    if says is None:
        assert decision.warnings == ()
    else:
        assert [warning.partition(" (95 %")[0] for warning in decision.warnings] == [
            f"{words}: {says}" for words in ("image and text", "image only", "text only")
        ]


def test_copies_of_a_version_are_equal(live: Callable[..., Store], new: ManifestDraft) -> None:
    random = np.random.default_rng(0)
    each = scores(90).model_copy(
        update={"patterns": {p: tuple(random.integers(0, 2, ITEMS).astype(float).tolist()) for p in Pattern}}
    )

    decision = decide(live(each), new, each, 0.0)

    assert decision.worse == ()
    assert all("+0.0 points" in line for line in decision.comparison[1:])


def test_the_version_is_compared_with_the_live_one_rather_than_the_newest(shelf: Shelf, new: ManifestDraft) -> None:
    for right, make_live in ((90, True), (5, False)):
        draft = with_scores(shelf.draft(), scores(right))
        publish(shelf.store, draft.manifest, draft.blobs, make_live=make_live)

    decision = decide(shelf.store, new, scores(40), 1.0)

    assert decision.comparison[0].startswith("compared with version 1,")
    assert decision.worse


def test_the_version_is_compared_with_the_one_that_is_live_when_it_is_published(
    live: Callable[..., Store], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command publishes a better version between the start of this one and the time that it has the lock."""
    store, better, drafted = live(scores(50)), with_scores(shelf.draft(seed=2), scores(95)), scores(60)
    draft, locked = with_scores(shelf.draft(seed=3), drafted), publishing.writing

    @contextmanager
    def late(store: Store) -> Iterator[Path]:
        monkeypatch.undo()
        publish(store, better.manifest, better.blobs)
        with locked(store) as staging:
            yield staging

    monkeypatch.setattr(publishing, "writing", late)

    manifest, decision = publish_unless_worse(store, draft.manifest, draft.blobs, drafted, 1.0)

    assert decision.comparison[0].startswith("compared with version 2,")
    assert decision.worse
    assert (manifest.version, store.live("fruit")) == (3, 2)


@pytest.mark.parametrize(("right", "is_live"), [(90, True), (40, False)])
def test_a_version_becomes_live_unless_it_is_worse(
    live: Callable[..., Store], shelf: Shelf, right: int, is_live: bool
) -> None:
    store, draft = live(scores(80)), with_scores(shelf.draft(seed=2), scores(right))

    manifest, decision = publish_unless_worse(store, draft.manifest, draft.blobs, scores(right), 1.0)

    assert bool(decision.worse) is not is_live
    assert store.live("fruit") == (manifest.version if is_live else 1)
