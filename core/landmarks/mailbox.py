"""A place for one item, in which the newest wins: how pictures pass from one thread to another."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """One place; a new item replaces one that was not taken. Any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many items nobody took."""
        with self._changed:
            return self._replaced

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        with self._changed:
            return self._closed

    def put(self, item: Item) -> bool:
        """Leave an item; True when the place was empty."""
        with self._changed:
            was_empty = self._item is None
            self._replaced += not was_empty
            self._item = item
            self._changed.notify()
            return was_empty

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Wait for an item; None once the mailbox is closed, or after ``timeout_s`` without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None, timeout_s)
            item, self._item = self._item, None
            return None if self._closed else item

    def take_now(self) -> Item | None:
        """Give the item, or None where there is none."""
        with self._changed:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
