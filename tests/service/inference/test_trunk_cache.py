"""The outputs that the cache keeps and drops, and its counts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

from model_store import Precision
from service.inference.forward import Admission, TowerInput, forward
from service.inference.trunk_cache import TrunkCache
from service.models.execution import Execution, Runtime

ONE, OTHER = (SimpleNamespace(sha256=name, execution=Execution()) for name in ("one", "other"))
OUTPUT = np.ones((1, 2, 3), np.float32)  # 24 bytes


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def cache(registry) -> TrunkCache:
    """Room for two outputs."""
    return TrunkCache(50, Counter("cache", "", ["result"], registry=registry))


def key(cache: TrunkCache, number: int, trunk: object = ONE) -> object:
    return cache.key(trunk, np.full((1, 4), number))


def test_a_key_depends_on_the_file_the_execution_and_the_input(cache):
    rounded = SimpleNamespace(sha256="one", execution=Execution(Runtime.OPENVINO, Precision.BF16))
    assert key(cache, 1) != key(cache, 1, rounded)
    assert key(cache, 1) == key(cache, 1)
    assert len({key(cache, 1), key(cache, 2), key(cache, 1, OTHER)}) == 3
    transposed = np.arange(4).reshape(2, 2).T
    assert cache.key(ONE, transposed) == cache.key(ONE, transposed.copy())


def test_the_least_recently_used_output_is_dropped(cache, registry):
    for number in (1, 2):
        cache.put(key(cache, number), OUTPUT * number)
    assert (cache.get(key(cache, 1)) == OUTPUT).all()

    cache.put(key(cache, 3), OUTPUT * 3)

    assert [cache.get(key(cache, number)) is not None for number in (1, 2, 3)] == [True, False, True]
    assert registry.get_sample_value("cache_total", {"result": "hit"}) == 3
    assert registry.get_sample_value("cache_total", {"result": "miss"}) == 1


def test_an_output_that_is_put_twice_is_counted_once(cache):
    for number in (1, 1, 1, 2):
        cache.put(key(cache, number), OUTPUT)
    assert all(cache.get(key(cache, number)) is not None for number in (1, 2))


def test_an_output_larger_than_the_cache_is_not_kept(cache):
    cache.put(key(cache, 1), np.ones((1, 20, 3), np.float32))
    assert cache.get(key(cache, 1)) is None


def test_a_kept_output_does_not_change_with_its_batch(cache):
    batch = np.ones((4, 2, 3), np.float32)
    cache.put(key(cache, 1), batch[:1])
    batch[:] = 7
    assert (cache.get(key(cache, 1)) == OUTPUT).all()


def test_a_cache_of_no_bytes_keeps_nothing_and_counts_nothing(registry):
    cache = TrunkCache(0, Counter("cache", "", ["result"], registry=registry))
    cache.put(key(cache, 1), OUTPUT)
    trunk = SimpleNamespace(sha256="one", run_on_device=lambda numbers, options: numbers)

    assert forward([TowerInput(trunk, (), np.full((1, 4), 1), (), Admission("fruit", 4))], cache) == [[]]

    assert registry.get_sample_value("cache_total", {"result": "miss"}) is None
    assert cache.get(key(cache, 1)) is None
