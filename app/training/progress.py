"""How far a run has come, and how long it will still take."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from signscope.records import StepRecord

_WINDOW_S = 20.0
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run sets out to do, known before its first batch."""

    total_epochs: int
    batches_per_epoch: int

    @property
    def batches(self) -> int:
        """Batches of the whole run."""
        return self.total_epochs * self.batches_per_epoch


class RunProgress:
    """Position, speed and remaining time of one run, fed with its records. One thread only.

    Speed counts the wall time of the last 20 seconds, so evaluation between epochs is part of it and
    the remaining time is honest. Rests are not: call ``interrupted`` when a run pauses.
    """

    def __init__(self, plan: RunPlan | None = None) -> None:
        self.plan = plan
        self.epoch = 0
        self.batch = 0  # finished batches of the epoch
        self.done = 0  # finished batches of the run
        self._recent: deque[tuple[float, int]] = deque()

    def go_on_from(self, epoch: int, batch: int, done: int) -> None:
        """Begin at a batch that was finished before anyone timed."""
        self.epoch, self.batch, self.done = epoch, batch, done
        self._recent.clear()

    def interrupted(self) -> None:
        """The run rests: what comes next is timed afresh."""
        self._recent.clear()

    def add(self, record: StepRecord) -> None:
        """Take one finished batch into account."""
        self.epoch, self.batch, self.done = record.epoch, record.batch_idx + 1, record.step + 1
        self._recent.append((record.wall_time, self.done))
        while self._recent[0][0] < record.wall_time - _WINDOW_S:
            self._recent.popleft()

    @property
    def batches_per_s(self) -> float | None:
        """Finished batches per second of late, None while too little is known."""
        if len(self._recent) < 2:
            return None
        (begin_s, first), (end_s, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end_s - begin_s) if end_s - begin_s >= _SETTLE_S else None

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest of the run will take at this speed, None while unknown."""
        speed = self.batches_per_s
        if self.plan is None or not speed:
            return None
        return max(0, self.plan.batches - self.done) / speed


def duration_text(seconds: float) -> str:
    """Give a duration as a person says it: ``40 s``, ``4 min``, ``2 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
