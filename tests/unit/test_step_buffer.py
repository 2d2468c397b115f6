import threading

import pytest

from signscope.step_buffer import StepBuffer


def test_items_come_out_once_and_in_order() -> None:
    buffer: StepBuffer[int] = StepBuffer(10)
    for item in range(4):
        buffer.push(item)
    assert len(buffer) == 4
    assert buffer.drain() == [0, 1, 2, 3]
    assert buffer.drain() == []
    assert buffer.evicted == 0


def test_the_newest_are_kept_and_the_others_counted() -> None:
    buffer: StepBuffer[int] = StepBuffer(3)
    for item in range(8):
        buffer.push(item)
    assert buffer.drain() == [5, 6, 7]
    assert buffer.evicted == 5
    buffer.push(8)
    assert buffer.drain() == [8]
    assert buffer.evicted == 5


def test_a_buffer_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        StepBuffer(0)


def test_nothing_is_lost_or_doubled_between_threads() -> None:
    buffer: StepBuffer[int] = StepBuffer(1_000_000)
    each, writers = 20_000, 3

    def push(start: int) -> None:
        for item in range(start, start + each):
            buffer.push(item)

    threads = [threading.Thread(target=push, args=(each * number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    drained: list[int] = []
    while any(thread.is_alive() for thread in threads):
        drained += buffer.drain()
    for thread in threads:
        thread.join()
    drained += buffer.drain()
    assert sorted(drained) == list(range(each * writers))
    for number in range(writers):
        mine = [item for item in drained if item // each == number]
        assert mine == sorted(mine)
