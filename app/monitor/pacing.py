"""When to redraw: as often as a small share of the time allows, since the trainer needs the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.015
"""Most of the time that drawing may take while a run is going; log, labels and Qt itself add
what makes it 0.02."""
SHORTEST_S = 1 / 30
LONGEST_S = 0.4


class Pacer:
    """Measures what drawing costs and spaces it accordingly. GUI thread only.

    Cost is time on the clock. Processor time would be fairer on a busy machine, but asking for it is a
    call into the system kernel that costs a tenth of what it would measure.
    """

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._last = -LONGEST_S

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Count the time of the block as drawing. Blocks may not be nested."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s += time.perf_counter() - begin

    @property
    def interval_s(self) -> float:
        """Time between the last redraw and the next, by what was spent since the last began."""
        return min(max(self._spent_s / SHARE, SHORTEST_S), LONGEST_S)

    def take_turn(self, now: float) -> bool:
        """Say whether a redraw is due at ``now`` (seconds, monotonic); if so the next interval begins."""
        # Ticks come about this often: one that is a little early must not wait for the next.
        if now - self._last < 0.8 * self.interval_s:
            return False
        self._last = now
        self._spent_s = 0.0
        return True
