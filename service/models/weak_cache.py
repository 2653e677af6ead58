"""A cache of objects that several versions and tasks share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class WeakCache(Generic[Key, T]):
    """Makes each object once and drops it with its last user. Safe to use from several threads."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._objects: WeakValueDictionary[Key, T] = WeakValueDictionary()

    def get(self, key: Key, make: Callable[[], T]) -> T:
        """The object of this key, made now if nothing uses it yet. Raises the errors of `make`."""
        with self._making:
            cached = self._objects.get(key)
            if cached is None:
                cached = self._objects[key] = make()
            return cached

    def __len__(self) -> int:
        return len(self._objects)
