"""What a store says of its tasks, and the log and metric of a store that cannot be read."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from model_store import withdraw
from service.models.store_view import Pointer, StoreView
from service.telemetry.metrics import Metrics

LOADED = ["fruit"]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def view(shelf, metrics, clock) -> StoreView:
    """Of a store with one task, read once."""
    shelf.publish("fruit")
    view = StoreView(shelf.store, metrics)
    assert view.entries(LOADED) == ["fruit"]
    view.conclude([])
    return view


def age(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("mora_store_seconds_since_read")


def deny(monkeypatch, name: str, code: int) -> None:
    """Have the system refuse to look at a path of this name."""

    def denying(real):
        def call(path, *arguments, **options):
            if Path(path).name == name:
                raise OSError(code, "refused", str(path))
            return real(path, *arguments, **options)

        return call

    for function in ("lstat", "stat", "iterdir"):
        monkeypatch.setattr(Path, function, denying(getattr(Path, function)))


def lose(root: Path) -> None:
    root.rename(root.with_name("away"))


def empty(root: Path) -> None:
    lose(root)
    (root / "tasks").mkdir(parents=True)


UNREADABLE = {
    "gone": lose,
    "a file": lambda root: (lose(root), root.touch()),
    "without tasks": lambda root: lose(root / "tasks"),
    "a file for tasks": lambda root: (lose(root / "tasks"), (root / "tasks").touch()),
    "another, empty one": empty,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_store_is_logged_once_and_ages(shelf, view, metrics, events, clock, name):
    UNREADABLE[name](shelf.store.root)

    for _ in range(3):
        clock(1)
        assert view.entries(LOADED) is None

    assert [event["event"] for event in events] == ["store_unreadable"]
    assert str(shelf.store.root) in events[0]["problem"]
    assert age(metrics) == 3


def test_a_store_that_can_be_read_again_is_logged_with_the_time(shelf, view, metrics, events, clock):
    away = shelf.store.root.rename(shelf.store.root.with_name("away"))
    clock(4)
    view.entries(LOADED)
    away.rename(shelf.store.root)

    assert view.entries(LOADED) == ["fruit"]
    view.conclude([])

    assert events[-1]["event"] == "store_read_again"
    assert (events[-1]["seconds"], age(metrics)) == (4, 0)


def test_problems_of_tasks_make_a_reading_incomplete(view, metrics, events, clock):
    for problems in (["a"], ["a"], ["a", "b"]):
        clock(1)
        view.conclude(problems)

    assert [event["problem"] for event in events] == ["a", "a; b"]
    assert age(metrics) == 3


def test_a_store_that_is_not_there_yet_is_no_problem(shelf, events):
    assert StoreView(shelf.store, Metrics()).entries([]) is None
    assert events == []


def test_tasks_removed_from_the_same_folder_are_gone(shelf, view):
    shutil.rmtree(shelf.store.root / "tasks/fruit")
    assert view.entries(LOADED) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["live", "withdrawn", "fruit"])
def test_an_error_of_the_system_is_not_taken_for_an_absent_file(view, monkeypatch, name, code):
    deny(monkeypatch, name, code)

    pointer = view.pointer("fruit", is_loaded=True)

    assert (pointer.live, pointer.is_withdrawn, pointer.reason) == (None, False, "unreadable")


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_loaded_task_without_live_has_lost_it(shelf, view, is_loaded):
    (shelf.store.root / "tasks/fruit/live").unlink()

    pointer = view.pointer("fruit", is_loaded)

    assert pointer == Pointer() or pointer.reason == "missing"
    assert bool(pointer.problem) == is_loaded
    assert not is_loaded or "mora-store activate fruit VERSION" in pointer.problem


def test_a_withdrawn_task_says_so(shelf, view):
    withdraw(shelf.store, "fruit")
    assert view.pointer("fruit", is_loaded=True) == Pointer(is_withdrawn=True)


def test_a_pointer_changes_with_the_manifest(shelf, view):
    manifest = shelf.store.root / "tasks/fruit/1/manifest.json"
    before = view.pointer("fruit", is_loaded=True)
    assert view.pointer("fruit", is_loaded=True) == before

    manifest.write_bytes(manifest.read_bytes() + b" ")

    assert view.pointer("fruit", is_loaded=True) != before


def test_a_version_is_lacking_only_if_the_store_can_be_read(shelf, view):
    assert view.lacks("fruit", 2)
    assert not view.lacks("fruit", 1)
    shelf.store.root.rename(shelf.store.root.with_name("away"))
    assert not view.lacks("fruit", 2)
