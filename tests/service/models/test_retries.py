"""Versions that could not be loaded, and when they are tried again.

Covers service.models.catalog.
"""

from __future__ import annotations

import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from model_store import CorruptError, activate
from service.errors import Code, ServiceError
from service.models.catalog import Catalog
from service.models.loading import Loader
from service.models.refusal import RefusedError, is_final
from service.settings import Settings
from service.telemetry.metrics import Metrics


def unreadable(*_: object, **__: object) -> bytes:
    raise CorruptError("blobs cannot be read (Input/output error)", "unreadable")


def lacking(error: BaseException):
    def raise_error(*_: object, **__: object) -> None:
        raise error

    return raise_error


PASSING = {
    "memory for a session": ("onnxruntime.InferenceSession", lacking(MemoryError())),
    "memory in the runtime": ("onnxruntime.InferenceSession", lacking(RuntimeException("std::bad_alloc"))),
    "an unknown error of the runtime": ("onnxruntime.InferenceSession", lacking(RuntimeError("odd"))),
    "threads": ("threading.Thread.start", lacking(RuntimeError("can't start new thread"))),
    "memory for the head": ("service.models.loading.read_head", lacking(MemoryError())),
    "memory for the tokenizer": ("service.models.preparation.TextTokenizer.__init__", lacking(MemoryError())),
    "memory for a picture": ("service.models.loaded_model.decode", lacking(MemoryError())),
    "memory for a run": ("service.models.graphs.Graph.run_on_device", lacking(RuntimeError("Failed to allocate"))),
    "memory for a file": ("model_store.Store.read", lacking(MemoryError())),
    "open files": ("model_store.Store.read_manifest", lacking(OSError(24, "Too many open files"))),
    "a disk that fails": ("model_store.Store.read", unreadable),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_tried_again(shelf, monkeypatch, name):
    shelf.publish(seed=1)
    catalog = Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 2, retry_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(*PASSING[name])
        for _ in range(2):
            catalog.refresh()
            assert catalog.refusal("fruit").reason == ("unreadable" if name == "a disk that fails" else "load")
    assert not catalog.live

    catalog.refresh()

    assert catalog.live["fruit"].manifest.version == 1
    assert catalog.refusal("fruit") is None


class Loads(list):
    """The versions that were loaded or tried. Those in `broken` fail."""

    def __init__(self) -> None:
        self.broken: dict[int, BaseException] = {}


@pytest.fixture
def loads(monkeypatch):

    loads, load_version = Loads(), Loader.load

    def recorded(loader: Loader, task: str, version: int):
        loads.append(version)
        if version in loads.broken:
            raise loads.broken[version]
        return load_version(loader, task, version)

    monkeypatch.setattr(Loader, "load", recorded)
    return loads


def catalog_of_two_versions(shelf) -> Catalog:
    """Version 1 and the live version 2."""
    for seed in (1, 2):
        shelf.publish(seed=seed)
    return Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 2)


def test_the_live_version_is_tried_again_after_1_to_30_seconds(shelf, clock, loads):
    loads.broken = {2: MemoryError()}
    catalog = catalog_of_two_versions(shelf)
    waits, seconds = [], 0

    for _ in range(130):
        before = len(loads)
        catalog.refresh()
        if len(loads) > before:
            waits.append(seconds)
            seconds = 0
        clock(1)
        seconds += 1

    assert waits[:7] == [0, 1, 2, 4, 8, 16, 30]
    loads.broken = {}
    clock(31)
    catalog.refresh()
    assert catalog.live["fruit"].manifest.version == 2


ERRORS = [MemoryError(), CorruptError("", "unreadable"), RefusedError("load", ""), RefusedError("golden_mismatch", "")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_requests_for_a_version_that_failed_lately_are_answered_from_memory(shelf, clock, loads, error):
    catalog = catalog_of_two_versions(shelf)
    catalog.refresh()
    loads.broken = {1: error}
    loads.clear()

    def ask() -> None:
        for attempt in (catalog.pinned, catalog.pinned, catalog.loaded):
            with pytest.raises(ServiceError) as caught:
                attempt("fruit", 1)
            assert caught.value.code is Code.VERSION_REFUSED

    for _ in range(20):
        ask()
    assert loads == [1]

    clock(1.5)
    loads.broken = {}
    if isinstance(error, RefusedError) and is_final(error):
        ask()
        assert loads == [1]
    else:
        assert catalog.pinned("fruit", 1).manifest.version == 1


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_pinned_requests_do_not_delay_the_next_attempt_of_the_live_version(shelf, clock, loads, error):
    catalog = catalog_of_two_versions(shelf)
    activate(shelf.store, "fruit", 1)
    catalog.refresh()
    activate(shelf.store, "fruit", 2)
    loads.broken = {2: MemoryError()}
    catalog.refresh()
    loads.broken = {2: error}
    for _ in range(9):
        clock(0.1)
        with pytest.raises(ServiceError):
            catalog.pinned("fruit", 2)
    loads.broken = {}

    clock(0.2)
    catalog.refresh()

    assert catalog.live["fruit"].manifest.version == 2


@pytest.mark.parametrize("version", [3, 4, 10**17])
def test_a_version_that_does_not_exist_yet_is_found_once_it_is_published(shelf, version):
    catalog = catalog_of_two_versions(shelf)
    catalog.refresh()
    for _ in range(3):
        with pytest.raises(ServiceError) as caught:
            catalog.pinned("fruit", version)
        assert caught.value.code is Code.UNKNOWN_VERSION

    shelf.publish(seed=3)

    assert catalog.pinned("fruit", 3).manifest.version == 3


def test_a_withdrawn_old_version_does_not_end_the_attempts_of_the_live_one(shelf, loads, monkeypatch):
    catalog = Catalog(shelf.store, Loader(shelf.store, Settings(store=shelf.store.root)), Metrics(), 2, retry_seconds=0)
    shelf.publish(seed=1)
    catalog.refresh()
    shelf.publish(seed=2)
    loads.broken = {2: MemoryError()}
    catalog.refresh()
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "check", lacking(RefusedError("golden_mismatch", "wrong")))
        catalog.recheck(catalog.live["fruit"])
    assert not catalog.live
    assert catalog.refusal("fruit").version == 2
    loads.broken = {}

    catalog.refresh()

    assert catalog.live["fruit"].manifest.version == 2
