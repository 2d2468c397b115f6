from __future__ import annotations

import threading

from core.landmarks.mailbox import Mailbox


def test_the_newest_item_wins_and_the_others_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    assert [box.put(item) for item in (1, 2, 3)] == [True, False, False]
    assert (box.take(), box.take_now(), box.replaced) == (3, None, 2)
    assert box.put(4)


def test_closing_frees_whoever_waits() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    waiting = threading.Thread(target=lambda: taken.append(box.take()))
    waiting.start()
    box.close()
    waiting.join(10)
    assert taken == [None]


def test_waiting_ends_without_an_item_when_the_time_has_passed() -> None:
    box: Mailbox[int] = Mailbox()
    assert box.take(timeout_s=0.01) is None
    assert not box.closed
