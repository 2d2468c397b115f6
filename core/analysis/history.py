"""Everything that the plots of one run are drawn from, in memory, at any length.

A :class:`History` is filled from the records of a live run, or from the ledger of any run; both give
the same columns. It belongs to one thread (in the window: the GUI's).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.analysis.envelope import Coordinates, Floats, GrowingArray, Series
from core.analysis.smoothing import Ema, LogHistogram, RollingShare
from signscope.reader import LedgerReader, until_uncut
from signscope.records import Outcome, StepRecord
from signscope.schema import (
    DTYPES,
    FLOAT_COLUMNS,
    OUTCOMES,
    AnyArray,
    Columns,
    columns_of,
)

Axis = Literal["step", "time", "epoch"]
"""What x means: the number of the batch, seconds since the first batch, or epochs (2.5 is half-way
through the third)."""

_FOLD_AT = 256  # records that append() holds back before they become columns together


class LoadCancelled(Exception):
    """``cancelled`` said yes while a history was loaded from its ledger."""


class History:
    """The columns of a run. Positions count the batches that it holds, from 0.

    Positions equal steps as long as no record was lost on the way (StepBuffer.evicted); the column
    ``step`` tells. A record whose step is not above the newest one means that a run was resumed
    from a checkpoint: everything from that step on is forgotten first.

    Memory: 58 bytes a step in columns and 3.75 in pyramids, 0.62 GB for 10**7 steps (up to twice that
    while a live run grows, since room is doubled). One smoothed curve or rolling share adds 4.4.
    """

    def __init__(self) -> None:
        # Rooms differ so that the columns do not all grow, and copy, at the same batch.
        rooms = {name: int(1024 * 2 ** (place / len(DTYPES))) for place, name in enumerate(DTYPES)}
        self._series = {name: Series(rooms[name]) for name in FLOAT_COLUMNS}
        self._plain: dict[str, GrowingArray[Any]] = {
            name: GrowingArray(dtype, rooms[name])
            for name, dtype in DTYPES.items()
            if name not in FLOAT_COLUMNS
        }
        self._pending: list[StepRecord] = []
        self._newest_step = -1
        self._epoch_starts: list[tuple[int, int]] = []
        self._line: tuple[Coordinates, Coordinates] | None = None  # see _epoch_line
        self._outcome_counts = np.zeros(len(OUTCOMES), np.int64)
        self._clipped = 0
        self._derived: dict[tuple[object, ...], _Derived] = {}
        self._histograms: dict[str, tuple[LogHistogram, int]] = {}

    @classmethod
    def from_ledger(
        cls,
        reader: LedgerReader,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> History:
        """Load a whole run; 10**7 steps took 2.7 s of processor time (bench/bench_history.py).

        Args:
            reader: The ledger, used in this thread only while this runs.
            progress: Called with (steps loaded, steps in the ledger) after each piece.
            cancelled: Asked after each piece.

        Begins anew when the run is resumed from an earlier batch meanwhile.

        Raises:
            LedgerError: The ledger is damaged.
            LoadCancelled: ``cancelled`` said yes.
        """
        return until_uncut(lambda: cls._loaded(reader, progress, cancelled))

    @classmethod
    def _loaded(
        cls,
        reader: LedgerReader,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> History:
        history = cls()
        total = reader.step_count()
        history._reserve(total)
        for columns in reader.curves():
            history.extend_columns(columns)
            if progress is not None:
                progress(len(history), max(total, len(history)))
            if cancelled is not None and cancelled():
                raise LoadCancelled
        return history

    def __len__(self) -> int:
        self._fold()
        return len(self._plain["step"])

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, without pyramids, derived curves and the room ahead."""
        self._fold()
        plain = sum(column.nbytes for column in self._plain.values())
        return plain + sum(series.nbytes for series in self._series.values())

    @property
    def pyramid_nbytes(self) -> int:
        """Bytes of the pyramids over the columns."""
        self._fold()
        return sum(series.pyramid_nbytes for series in self._series.values())

    def append(self, record: StepRecord) -> None:
        """Add one batch; it becomes part of the columns with the next look at them."""
        self._pending.append(record)
        if len(self._pending) >= _FOLD_AT:
            self._fold()

    def extend(self, records: Sequence[StepRecord]) -> None:
        """Add batches, oldest first."""
        self._pending.extend(records)
        if len(self._pending) >= _FOLD_AT:
            self._fold()

    def extend_columns(self, columns: Columns) -> None:
        """Add batches given as columns, as :meth:`LedgerReader.curves` gives them."""
        self._fold()
        self._add(columns)

    def truncate_from(self, step: int) -> None:
        """Forget every batch from ``step`` on, as a ledger does before a run is resumed."""
        self._fold()
        self._truncate(bisect_left(self._plain["step"].view, step))

    def column(self, name: str) -> AnyArray:
        """Give a column by the name that it has in DTYPES, whole, read-only, without a copy."""
        self._fold()
        if name in self._series:
            return self._series[name].values
        return self._plain[name].view

    def series(self, name: str) -> Series:
        """Give one of FLOAT_COLUMNS as a curve."""
        self._fold()
        return self._series[name]

    def envelope(
        self, name: str, first: int, last: int, pixels: int, axis: Axis = "step"
    ) -> tuple[Coordinates, Floats]:
        """Draw positions ``first`` to ``last`` of a column: see :meth:`Series.envelope`; x as ``axis``."""
        x, y = self.series(name).envelope(first, last, pixels)
        return self.to_axis(x, axis), y

    def smoothed(self, name: str, decay: float, most: int | None = None) -> Series:
        """Give the running mean of a column as a curve (see Ema); kept, and grown as the column grows.

        The first call for a name and decay takes some 50 ns a step. Ask anew before each drawing.

        Args:
            most: Steps that this call may work through; the curve is shorter than the column until
                enough calls were made. None works through all.
        """
        return self._derive(("ema", name, decay), name, lambda: Ema(decay), most)

    def clipped_share(self, window: int, most: int | None = None) -> Series:
        """Give the share of clipped batches among the newest ``window``; kept as in smoothed()."""
        return self._derive(("clipped", window), "clipped", lambda: RollingShare(window), most)

    def histogram(self, name: str = "grad_norm_pre", most: int | None = None) -> LogHistogram:
        """Give the distribution of a column over the whole run; grown as in smoothed()."""
        values = self.series(name).values
        histogram, done = self._histograms.get(name) or (LogHistogram(), 0)
        end = len(values) if most is None else min(len(values), done + most)
        histogram.extend(values[done:end])
        self._histograms[name] = (histogram, end)
        return histogram

    def forget_derived(self) -> None:
        """Free the memory of smoothed curves, shares and histograms; they are made anew when asked for."""
        self._derived.clear()
        self._histograms.clear()

    def outcomes(self) -> dict[Outcome, int]:
        """Count the batches held by what became of them."""
        self._fold()
        return dict(zip(OUTCOMES, self._outcome_counts.tolist(), strict=True))

    def clipped_count(self) -> int:
        """How many of the batches held were clipped."""
        self._fold()
        return self._clipped

    def position_of_step(self, step: int) -> int:
        """Position of a step, or of the first after it; ``len`` when there is none."""
        return bisect_left(self.column("step"), step)

    def positions(self, low: float, high: float, axis: Axis = "step") -> tuple[int, int]:
        """Give (first, last) positions that a view from ``low`` to ``high`` on ``axis`` needs.

        One more on each side where there is one, so that a line runs to the edge of the view.
        """
        if len(self) == 0:
            return 0, -1
        if axis == "epoch":
            x, places = self._epoch_line()
            first = int(np.floor(np.interp(low, x, places)))
            last = int(np.ceil(np.interp(high, x, places)))
        elif axis == "step" and self._newest_step == len(self) - 1:  # no batch is missing
            first, last = math.ceil(low) - 1, math.floor(high) + 1
        else:
            column = self._plain["step" if axis == "step" else "wall_time"].view
            offset = 0.0 if axis == "step" else float(column[0])
            # np.searchsorted would first convert the whole column to the type of the number.
            first = bisect_left(column, low + offset) - 1
            last = bisect_right(column, high + offset)
        newest = len(self) - 1
        return min(max(0, first), newest), max(0, min(last, newest))

    def to_axis(self, x: npt.NDArray[np.floating], axis: Axis) -> Coordinates:
        """Turn positions (M,), whole or in between, into x on ``axis``; M at a time, any order."""
        if len(self) == 0 or len(x) == 0:
            return np.asarray(x, np.float64)
        if axis == "epoch":
            line_x, places = self._epoch_line()
            epochs: Coordinates = np.interp(x, places, line_x)
            return epochs
        column = self._plain["step" if axis == "step" else "wall_time"].view
        if axis == "step" and self._newest_step == len(column) - 1:  # no batch is missing
            steps: Coordinates = np.asarray(x, np.float64)
            return steps
        left = np.clip(np.floor(x).astype(np.int64), 0, len(column) - 1)
        right = np.minimum(left + 1, len(column) - 1)
        start, end = column[left].astype(np.float64), column[right].astype(np.float64)
        values: Coordinates = start + (x - left) * (end - start)
        return values if axis == "step" else values - float(column[0])

    def _epoch_line(self) -> tuple[Coordinates, Coordinates]:
        """Corners of the line from positions to epochs. The last epoch is taken as long as the one before."""
        line = self._line
        if line is None or len(line[0]) != len(self._epoch_starts) + 1:
            corners = np.array(
                [*self._epoch_starts, (self._epoch_starts[-1][0] + 1, 0)], np.float64
            )
            line = self._line = (corners[:, 0] - 1, corners[:, 1])
        starts = line[1]
        so_far = len(self._plain["step"]) - starts[-2]
        usual = starts[-2] - starts[-3] if len(starts) > 2 else so_far
        starts[-1] = starts[-2] + max(usual, so_far)
        return line

    def _fold(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            self._add(columns_of(pending))

    def _add(self, columns: Columns) -> None:
        step_N = columns["step"].astype(np.int64)
        if not len(step_N):
            return
        back = np.flatnonzero(step_N[1:] <= step_N[:-1])
        if len(back):  # a run was resumed between these records
            cut = int(back[0]) + 1
            self._add({name: column[:cut] for name, column in columns.items()})
            self._add({name: column[cut:] for name, column in columns.items()})
            return
        if step_N[0] <= self._newest_step:
            self._truncate(bisect_left(self._plain["step"].view, step_N[0]))
        self._note_epochs(columns["epoch"])
        self._outcome_counts += np.bincount(columns["outcome"], minlength=len(OUTCOMES))
        self._clipped += int(columns["clipped"].sum())
        for name, series in self._series.items():
            series.extend(columns[name])
        for name, column in self._plain.items():
            column.extend(self._rising(columns[name]) if name == "wall_time" else columns[name])
        self._newest_step = int(step_N[-1])

    def _rising(self, wall_time_N: AnyArray) -> AnyArray:
        """Times that never go back, so that they can be searched, also when the clock was set."""
        known = self._plain["wall_time"].view
        newest = known[-1] if len(known) else -np.inf
        rising: AnyArray = np.fmax.accumulate(np.fmax(wall_time_N, newest))
        return rising

    def _note_epochs(self, epoch_N: AnyArray) -> None:
        newest = self._epoch_starts[-1][0] if self._epoch_starts else -1
        changed = np.flatnonzero(np.diff(epoch_N.astype(np.int64), prepend=newest))
        length = len(self._plain["step"])
        self._epoch_starts += [(int(epoch_N[place]), length + int(place)) for place in changed]

    def _truncate(self, length: int) -> None:
        outcome_N = self._plain["outcome"].view[length:]
        self._outcome_counts -= np.bincount(outcome_N, minlength=len(OUTCOMES))
        self._clipped -= int(self._plain["clipped"].view[length:].sum())
        for series in self._series.values():
            series.truncate(length)
        for column in self._plain.values():
            column.truncate(length)
        self._epoch_starts = [entry for entry in self._epoch_starts if entry[1] < length]
        self._line = None
        self._newest_step = int(self._plain["step"].view[-1]) if length else -1
        self.forget_derived()

    def _reserve(self, room: int) -> None:
        for series in self._series.values():
            series.reserve(room)
        for column in self._plain.values():
            column.reserve(room)

    def _derive(
        self,
        key: tuple[object, ...],
        name: str,
        make: Callable[[], Ema | RollingShare],
        most: int | None,
    ) -> Series:
        column = self.column(name)
        derived = self._derived.get(key)
        if derived is None:
            derived = self._derived[key] = _Derived(make(), len(column))
        known = len(derived.series)
        derived.follow(column if most is None else column[: known + most])
        return derived.series


class _Derived:
    """A curve computed from a column, as far as the column has come."""

    def __init__(self, rule: Ema | RollingShare, room: int) -> None:
        self._rule = rule
        self.series = Series()
        self.series.reserve(room)

    def follow(self, column: AnyArray) -> None:
        while len(self.series) < len(column):  # in pieces, so that float64 copies stay small
            piece = column[len(self.series) : len(self.series) + 65536]
            self.series.extend(self._rule.extend(piece))
