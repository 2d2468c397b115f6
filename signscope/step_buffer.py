"""The bounded hand-over between the trainer and whoever watches: pull, never push.

The trainer pushes and never waits; a watcher drains when it has time. When the watcher is so slow that
the buffer is full, the oldest item leaves and is counted: the ledger has it, the screen fetches it there.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class StepBuffer(Generic[T]):
    """A bounded queue of which the newest ``capacity`` items are kept. Every method is for any thread.

    Args:
        capacity: Most items held, at least 1. At 1000 steps/s and a drain each 33 ms about 33 are in use.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("capacity must be at least 1")
        self._items: deque[T] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._evicted = 0

    def push(self, item: T) -> None:
        """Add one item in constant time; never blocks for longer than a drain's swap of two queues."""
        with self._lock:
            if len(self._items) == self._items.maxlen:
                self._evicted += 1
            self._items.append(item)

    def drain(self) -> list[T]:
        """Take out everything that is held, oldest first."""
        with self._lock:
            taken, self._items = self._items, deque(maxlen=self._items.maxlen)
        return list(taken)

    @property
    def evicted(self) -> int:
        """How many items left unseen since the buffer was made."""
        with self._lock:
            return self._evicted

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)
