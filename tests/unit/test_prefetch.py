"""Prefetching: same items, same errors, bounded, and no thread left in any case.

That no thread is left is checked after each test by the fixture in tests/conftest.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from core.corpus.prefetch import prefetch

WAIT_S = 20.0


@pytest.mark.parametrize("depth", [0, 1, 2, 50])
def test_items_come_in_order_and_complete(depth: int) -> None:
    with prefetch(iter(range(100)), depth) as items:
        assert list(items) == list(range(100))
        assert list(items) == []
    nothing: list[int] = []
    with prefetch(nothing, depth) as items:
        assert list(items) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_error_comes_where_it_would_have_come(depth: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("the disk is gone")

    seen: list[int] = []
    with (
        pytest.raises(RuntimeError, match="the disk is gone"),
        prefetch(broken(), depth) as items,
    ):
        for item in items:
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]


def test_no_more_than_depth_is_made_ahead() -> None:
    made = 0
    reached = threading.Event()

    def counting() -> Iterator[int]:
        nonlocal made
        for item in range(100):
            made += 1
            if made == 4:
                reached.set()
            yield item

    with prefetch(counting(), 3) as items:
        assert next(items) == 0
        # One was taken, three may wait; the thread then rests until there is room.
        assert reached.wait(WAIT_S)
        assert next(items) == 1
        assert made <= 5
    assert made <= 6


def test_work_happens_in_another_thread_only_with_a_depth() -> None:
    def where() -> Iterator[int]:
        yield threading.get_ident()

    with prefetch(where(), 0) as items:
        assert next(items) == threading.get_ident()
    with prefetch(where(), 1) as items:
        assert next(items) != threading.get_ident()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_ends_the_thread_and_closes_the_source(taken: int) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    with prefetch(endless(), 2) as items:
        assert [next(items) for _ in range(taken)] == list(range(taken))
    assert closed.is_set() or taken == 0
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_an_error_of_the_consumer_ends_the_thread_too() -> None:
    with pytest.raises(KeyboardInterrupt), prefetch(iter(range(1000)), 2) as items:
        next(items)
        raise KeyboardInterrupt
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_closing_waits_for_the_item_being_made() -> None:
    started, release, finished = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        started.set()
        release.wait(WAIT_S)
        finished.set()
        yield 1

    with prefetch(slow(), 1) as items:
        assert next(items) == 0
        assert started.wait(WAIT_S)
        release.set()
    assert finished.is_set()
