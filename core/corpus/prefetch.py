"""Preparing the next batches in a thread while the current one is trained on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


@contextmanager
def prefetch(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Give an iterator over ``items`` of which up to ``depth`` are made ahead in a thread.

    Order and items are those of ``items``; an error in making one is raised where it would have come,
    after the items before it. Leaving the ``with`` block at any time ends the thread: it finishes at
    most the one item that it is making. With depth 0 everything happens in the caller's thread.

    ::

        with prefetch(data.train_batches(epoch), depth=2) as batches:
            for batch in batches: ...
    """
    if depth == 0:
        yield iter(items)
        return
    prefetcher = _Prefetcher(iter(items), depth)
    try:
        yield prefetcher
    finally:
        prefetcher.close()


class _Prefetcher(Generic[T]):
    """One producer thread and one consumer around a bounded queue; neither polls."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._exhausted = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._produce, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._exhausted or self._closed)
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread and drop what is ready; may be called in any state, more than once."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def _produce(self) -> None:
        try:
            while self._wait_for_room():
                item = next(self._items)
                with self._changed:
                    if not self._closed:
                        self._ready.append(item)
                    self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as error:  # whatever it is, it belongs to the consumer
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._exhausted = True
                self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._ready) < self._depth)
            return not self._closed
