"""What is marked along a run: pauses, alerts, and the checkpoints that it can go on from."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.monitor.kept_checkpoints import kept_checkpoints
from app.monitor.marks import MARKED
from core.analysis.history import History
from signscope.records import RunEventRecord

_MOST_EVENTS = 2000
_LOOK_EVERY_S = 2.0
"""How often the folder is looked at for checkpoints."""
_NOTES = 3


class RunMarks:
    """Events of one run and the checkpoints of its folder. GUI thread only."""

    def __init__(self) -> None:
        self.events: list[RunEventRecord] = []
        """Those that are marked, in the order of their batches."""
        self.set_folder(None)

    def clear(self) -> None:
        """Forget the run."""
        self.events = []
        self.set_folder(None)

    def set_folder(self, checkpoints_dir: Path | None) -> None:
        """Look for checkpoints in this folder from now on."""
        self._checkpoints_dir = checkpoints_dir
        self._kept: tuple[RunEventRecord, ...] = ()
        self._looked_at_s = -math.inf

    def add(self, events: Iterable[RunEventRecord]) -> bool:
        """Take over events, in any order; say whether one of them is of a kind that is marked."""
        marked = [event for event in events if event.kind in MARKED]
        for event in marked:
            insort(self.events, event, key=lambda each: each.step)
        return bool(marked)

    def rewind(self, step: int) -> None:
        """Forget what happened after batch ``step``."""
        self.events = [event for event in self.events if event.step <= step]

    def look(self, now_s: float) -> bool:
        """Look for checkpoints when it is time to (monotonic seconds); say whether they changed."""
        if self._checkpoints_dir is None or now_s - self._looked_at_s < _LOOK_EVERY_S:
            return False
        self._looked_at_s = now_s
        kept = kept_checkpoints(self._checkpoints_dir)
        changed = kept != self._kept
        self._kept = kept
        return changed

    def between(
        self, history: History, begin: int, end: int
    ) -> tuple[npt.NDArray[np.float64], Sequence[RunEventRecord]]:
        """Give the marks from position ``begin`` to ``end``: their positions (M,), and what they are."""
        events = [*self._kept, *self.events[-_MOST_EVENTS:]]
        events.sort(key=lambda each: each.step)
        if not events or end < begin:
            return np.empty(0), ()
        step_N = history.column("step")
        steps = np.array([event.step for event in events], step_N.dtype)
        places = np.minimum(np.searchsorted(step_N, steps), len(step_N) - 1)
        some = np.flatnonzero((places >= begin) & (places <= end))
        return places[some].astype(np.float64), [events[i] for i in some.tolist()]

    def note(self, step: int) -> str:
        """Say what is marked at a batch; "" for nothing."""
        told = [
            f"{each.kind.value}: {each.text}"
            for each in (*self._kept, *self.events)
            if each.step == step
        ]
        return "; ".join(told[-_NOTES:])
