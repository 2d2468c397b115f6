"""Numbers on their way from a device: copied without waiting, handed on in order when they have arrived."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signscope.watching.numbers import Number

_LOOK_EVERY_S = 0.05
_MOST = 1024
"""Accounts that may be under way; a device that is further behind is waited for."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """The numbers of one account that were on a device: ``host`` is right once the device has got there."""

    host: Tensor  # (N,) float32
    event: torch.cuda.Event | None

    def arrived(self) -> bool:
        return self.event is not None and bool(self.event.query())  # type: ignore[no-untyped-call]

    def read(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        return self.host.tolist()


@dataclass(frozen=True, slots=True)
class _Expected:
    numbers: Sequence[Number]
    copy: _Copy | None
    take: Callable[[list[float]], None]

    def read(self) -> list[float]:
        """Give every number in its place; waits for the device where it has to."""
        copied = iter(() if self.copy is None else self.copy.read())
        found: list[float] = []
        for number in self.numbers:
            if not isinstance(number, Tensor):
                found.append(float(number))
            elif number.device.type == "cpu":
                found += number.reshape(-1).tolist()
            else:
                found += [next(copied) for _ in range(number.numel())]
        return found


class Arrivals:
    """Hands on lists of numbers in the order they were expected, in a thread of its own.

    The thread that trains only adds to a queue, which it does in a microsecond; nothing of what follows is on its
    way. :meth:`expect` and :meth:`close` belong to that thread.

    Args:
        failed: Called once, in the other thread, with what a taker raised; nothing is handed on after it.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._expected: deque[_Expected] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="signscope watch", daemon=True)
        self._thread.start()

    def expect(self, numbers: Sequence[Number], take: Callable[[list[float]], None]) -> None:
        """Have ``take`` called with ``numbers``, tensors flattened, once they and all before them are there.

        Tensors must not be changed by anybody until then.
        """
        self._expected.append(_Expected(numbers, _copied(numbers), take))

    def close(self) -> None:
        """Wait for the device, hand on everything, and end the thread."""
        self._closing.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._closing.wait(_LOOK_EVERY_S):
                while self._expected and self._may_read(self._expected[0]):
                    self._hand_on()
            while self._expected:
                self._hand_on()
        except Exception as error:
            self._failed(error)

    def _may_read(self, first: _Expected) -> bool:
        if first.copy is None or first.copy.arrived() or len(self._expected) > _MOST:
            return True
        # A device without events to ask: read when the next attempt is there, its work is done by then.
        return first.copy.event is None and len(self._expected) > 1

    def _hand_on(self) -> None:
        first = self._expected.popleft()
        first.take(first.read())


def _copied(numbers: Sequence[Number]) -> _Copy | None:
    """Start the copy of what is on a device."""
    there = [n for n in numbers if isinstance(n, Tensor) and n.device.type != "cpu"]
    if not there:
        return None
    device = there[0].device
    packed = torch.cat([n.detach().to(device, torch.float32).reshape(-1) for n in there])
    if device.type != "cuda":
        return _Copy(packed, None)
    host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return _Copy(host, event)
