"""Things that several versions and tasks have in common, in memory once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class WeakCache(Generic[Key, T]):
    """Makes a thing once, however many use it; drops it when none does any more. Safe to use from several threads."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._made: WeakValueDictionary[Key, T] = WeakValueDictionary()

    def get(self, key: Key, make: Callable[[], T]) -> T:
        """The thing of this key; made now if nobody has it. Raises what `make` raises."""
        with self._making:
            thing = self._made.get(key)
            if thing is None:
                thing = self._made[key] = make()
            return thing

    def __len__(self) -> int:
        return len(self._made)
