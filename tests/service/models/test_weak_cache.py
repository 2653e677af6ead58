from __future__ import annotations

import gc
import threading

import pytest

from service.models.weak_cache import WeakCache


class Made:
    """An object that can be weakly referenced."""


def test_an_object_is_made_once_and_dropped_with_its_last_user():
    cache, made = WeakCache[str, Made](), []

    def make() -> Made:
        made.append(1)
        return Made()

    first = cache.get("a", make)
    assert cache.get("a", make) is first
    assert cache.get("b", make) is not first
    assert len(made) == 3 - 1
    gc.collect()
    assert len(cache) == 1

    del first
    gc.collect()

    assert len(cache) == 0
    cache.get("a", make)
    assert len(made) == 3


def test_threads_get_the_same_object():
    cache, barrier, objects = WeakCache[str, Made](), threading.Barrier(8), []

    def get() -> None:
        barrier.wait()
        objects.append(cache.get("a", Made))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(made) for made in objects}) == 1


def test_an_object_that_cannot_be_made_leaves_nothing():
    cache = WeakCache[str, Made]()
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0)
    assert len(cache) == 0
    assert isinstance(cache.get("a", Made), Made)
