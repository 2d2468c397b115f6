"""Which stretch of x is shown: the whole run, its newest part, or what a person panned to."""

from __future__ import annotations

import numpy as np

from core.analysis.history import Axis, History

FIRST_SPANS: dict[Axis, float] = {"step": 50.0, "epoch": 1.0, "time": 10.0}
"""What the x axis shows before there is more."""
_LEAST_BATCHES = 4
"""Zooming ends here."""


class XRange:
    """The range of x over one run, free of Qt.

    While ``follow`` is set, the newest batch is kept in sight: ``current`` then moves its right end in
    strides, so that the axes need no painting for each batch.

    Args:
        history: The batches of the run.
    """

    def __init__(self, history: History) -> None:
        self.axis: Axis = "step"
        """What x means."""
        self.begin(history)

    def begin(self, history: History) -> None:
        """Show another run, whole."""
        self._history = history
        self.follow = True
        """Whether the newest batch is kept in sight."""
        self._span: float | None = None  # None: the whole run
        self._right = FIRST_SPANS[self.axis]
        self.shown = (0.0, self._right)
        """The range drawn last."""

    @property
    def newest(self) -> float:
        """x of the newest batch."""
        return self.of(len(self._history) - 1) if len(self._history) else 0.0

    def of(self, position: int) -> float:
        """Give x of a position."""
        return float(self._history.to_axis(np.array([position], np.float64), self.axis)[0])

    def current(self) -> tuple[float, float]:
        """Give the range to draw now."""
        if not self.follow:
            return self.shown
        newest = self.newest
        if newest >= self._right:
            stride = newest / 4 if self._span is None else self._span / 12
            self._right = newest + max(stride, FIRST_SPANS[self.axis] / 50)
        if self._span is None:
            return -0.01 * self._right, self._right
        return self._right - self._span, self._right

    def fit(self) -> None:
        """Show the whole run, however it grows."""
        self._span = None
        self._right = max(FIRST_SPANS[self.axis], self.newest * 1.02)
        self.follow = True

    def place(self, first: float, last: float) -> None:
        """Show exactly this, and stay there."""
        self.follow = False
        self.shown = (first, last)

    def move(self, first: float, last: float) -> None:
        """Show what is nearest to this and still has something of the run; follow if that has the newest."""
        first, last = self._within(first, last)
        self.follow = last >= self.newest
        if self.follow:
            self._span = None if first <= 0.0 else last - first
            self._right = last
        self.shown = (first, last)

    def go_on_following(self) -> None:
        """Bring the newest batch into sight, with as much before it as is shown now."""
        first, last = self.shown
        newest = self.newest
        self._span = None if first <= 0.0 else last - first
        self._right = newest if self._span is None else newest + self._span / 12
        self._right = max(self._right, FIRST_SPANS[self.axis] if self._span is None else 0.0)
        self.follow = True

    def set_axis(self, axis: Axis) -> None:
        """Count x in another way; the batches in sight stay in sight."""
        places = self._history.positions(*self.current(), self.axis)
        self.axis = axis
        ends = self._history.to_axis(np.array(places, np.float64), axis).tolist()
        if not self.follow:
            self.shown = (ends[0], max(ends[1], ends[0] + self._least_span()))
            return
        self._right = max(FIRST_SPANS[axis], self.newest * 1.02)
        if self._span is not None:
            if len(self._history):
                self._span = max(ends[1] - ends[0], self._least_span())
            self._right = self.newest + self._span / 12

    def position_at(self, x: float) -> int | None:
        """Give the position of the batch nearest to an x, None without any."""
        first, last = self._history.positions(x, x, self.axis)
        if last < first:
            return None
        last = min(last, first + 64)
        near = self._history.to_axis(np.arange(first, last + 1, dtype=np.float64), self.axis)
        return first + int(np.abs(near - x).argmin())

    def _least_span(self) -> float:
        """The shortest stretch that is shown: a few batches."""
        count = len(self._history)
        if self.axis == "step" or count < 2:
            return float(_LEAST_BATCHES)
        return max(_LEAST_BATCHES * self.newest / count, 1e-9)

    def _within(self, first: float, last: float) -> tuple[float, float]:
        """The range nearest to the one asked for that still shows something of the run."""
        newest = max(self.newest, FIRST_SPANS[self.axis])
        span = min(max(last - first, self._least_span()), 1.5 * newest)
        if span != last - first:
            middle = (first + last) / 2
            first, last = middle - span / 2, middle + span / 2
        shift = max(-0.5 * span - first, 0.0) or min(newest + 0.5 * span - last, 0.0)
        return first + shift, last + shift
