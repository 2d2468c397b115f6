"""One column of any number of runs over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.monitor.axes import HeightAxis, ShareAxis, XAxis
from app.monitor.live_curve import (
    LiveCurve,
    NonFiniteMarks,
    QuietGrid,
    TimeView,
    log_height,
)
from app.monitor.live_plot import AXIS_WIDTH, Canvas
from app.monitor.marks import CrosshairLine
from app.monitor.pacing import Pacer
from app.runs.run_colors import RunStyle
from app.theme import Colors
from core.analysis.history import Axis, History


@dataclass(frozen=True, slots=True)
class OverlaidRun:
    """One run to draw. The history may go on growing."""

    key: str
    name: str
    history: History
    wer: tuple[tuple[int, float], ...] = ()
    """(epoch, word error rate as a share) of each epoch that was evaluated."""

    def evaluated(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give the positions of the last batches of evaluated epochs, and their word error rates."""
        epoch_N = self.history.column("epoch")
        ends = [
            (int(np.searchsorted(epoch_N, epoch_N.dtype.type(epoch), "right")) - 1, wer)
            for epoch, wer in self.wer
        ]
        known = [(float(end), wer) for end, wer in ends if end >= 0 and math.isfinite(wer)]
        both = np.array(known, np.float64).reshape(-1, 2)
        return both[:, 0], both[:, 1]


WER = "wer"
"""The column of an OverlayPlot of word error rates."""
_BEHIND = 0.3  # opacity of a curve behind its running mean


class DashedCurve(LiveCurve):
    """A live curve with a dash pattern."""

    def __init__(self, style: RunStyle, *, log: bool = False) -> None:
        self._dash: tuple[float, ...] = ()
        super().__init__(style.color, log=log)
        self.restyle(style)

    def restyle(self, style: RunStyle) -> None:
        """Take another colour and dash."""
        self._dash = style.dash
        self.recolor(style.color)

    def recolor(self, color: str) -> None:
        """Take another colour."""
        super().recolor(color)
        if self._dash:
            self._pen.setDashPattern(list(self._dash))


class OverlayPlot(QWidget):
    """One column of all runs, or with ``WER`` their word error rates. Ranges are set by OverlayPlots."""

    def __init__(self, title: str, column: str, *, log: bool, labelled: bool) -> None:
        super().__init__()
        self.setObjectName(f"overlay.{column}")
        self.column = column
        self.log = log
        self.y_held = False
        self.view = TimeView()
        self.view.y_moved.connect(self._on_y_moved)
        left = (ShareAxis if column == WER else HeightAxis)(orientation="left")
        left.setWidth(AXIS_WIDTH)
        left.enableAutoSIPrefix(False)
        left.log = log
        bottom = XAxis()
        bottom.setStyle(showValues=labelled, tickLength=-4 if labelled else 0)
        bottom.setHeight(36 if labelled else 6)
        bottom.named = labelled
        bottom.set_mode("step")
        self._axes = (left, bottom)
        side = pg.ViewBox(enableMenu=False, enableMouse=False)
        self.canvas = Canvas(Pacer(), self.view, side, left, bottom)
        self.canvas.set_side(False)
        self.canvas.setAccessibleName(title)
        self._grid = QuietGrid(left, "#888888")
        self.view.addItem(self._grid, ignoreBounds=True)
        self.crosshair = CrosshairLine()
        self.view.addItem(self.crosshair, ignoreBounds=True)
        self.curves: dict[str, DashedCurve] = {}
        self.smooth: dict[str, DashedCurve] = {}
        """Running means; empty while curves are drawn as they are."""
        self.marks: dict[str, NonFiniteMarks] = {}
        self.line: pg.InfiniteLine | None = None
        self._line_value = math.nan
        heading = QLabel(title)
        heading.setProperty("role", "heading")
        strip = QHBoxLayout()
        strip.setContentsMargins(10, 4, 6, 0)
        self._legend = QLabel()
        self._legend.setObjectName(f"lines.{column}")
        self._legend.setProperty("role", "muted")
        strip.addWidget(heading)
        strip.addStretch(1)
        strip.addWidget(self._legend)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(strip)
        layout.addWidget(self.canvas, 1)
        self.setMinimumHeight(100)

    def set_runs(self, styles: dict[str, RunStyle]) -> None:
        """Draw exactly the runs of these keys from now on."""
        for key in [key for key in self.curves if key not in styles]:
            self.view.removeItem(self.curves.pop(key))
            self.view.removeItem(self.smooth.pop(key))
            self.view.removeItem(self.marks.pop(key))
        for place, (key, style) in enumerate(styles.items()):
            if key not in self.curves:
                self.curves[key] = DashedCurve(style, log=self.log)
                self.smooth[key] = DashedCurve(style, log=self.log)
                self.marks[key] = NonFiniteMarks(style.color)
                self.view.addItem(self.curves[key], ignoreBounds=True)
                self.view.addItem(self.smooth[key], ignoreBounds=True)
                self.view.addItem(self.marks[key], ignoreBounds=True)
            for curve, level in ((self.curves[key], 0), (self.smooth[key], 1)):
                curve.restyle(style)
                curve.setZValue(level - place / (len(styles) + 1))  # the first is on top
            self.marks[key].recolor(style.color)

    def set_line(self, value: float | None, label: str) -> None:
        """Draw a dashed horizontal line at ``value``, move it, or with None remove it.

        What it means stands beside the heading: a text over the curves would hide some of them.
        """
        if value is None or not math.isfinite(value):
            if self.line is not None:
                self.view.removeItem(self.line)
                self.line = None
            self._legend.clear()
            return
        if self.line is None:
            self.line = pg.InfiniteLine(angle=0)
            self.view.addItem(self.line, ignoreBounds=True)
        self._line_value = value
        self.line.setPos(self.height_of(value))
        self._legend.setText(label)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme, except those of runs."""
        self.canvas.setBackground(colors.base)
        for axis in self._axes:
            axis.setPen(pg.mkPen(colors.border))
            axis.setTextPen(pg.mkPen(colors.plot_axis))
        self._grid.recolor("#252a31" if colors.dark else colors.window)
        self.crosshair.recolor(colors)
        self.canvas.focus_color = QColor(colors.accent)
        if self.line is not None:
            self.line.setPen(pg.mkPen(colors.limit, width=1, style=Qt.PenStyle.DashLine))

    def set_log(self, log: bool) -> None:
        """Draw logarithms, or the values themselves, from the next drawing on."""
        self.log = self._axes[0].log = log
        self._axes[0].picture = None
        for curve in (*self.curves.values(), *self.smooth.values()):
            curve.log = log
        if self.line is not None:
            self.line.setPos(self.height_of(self._line_value))
        self.y_held = False

    def set_axis(self, axis: Axis) -> None:
        """Label x for another meaning."""
        self._axes[1].set_mode(axis)

    def height_of(self, value: float) -> float:
        """Give where a value is drawn."""
        return float(log_height(value)) if self.log else value

    def draw(
        self, runs: Sequence[OverlaidRun], first: float, last: float, axis: Axis, decay: float
    ) -> None:
        """Show what lies between ``first`` and ``last`` on ``axis`` of every run that is not hidden.

        Args:
            runs: Those of the last ``set_runs``.
            first: Left end of what is seen.
            last: Right end.
            axis: What x means.
            decay: Of the running mean; 0 draws the curves as they are.
        """
        pixels = max(1, round(self.view.width() * self.canvas.devicePixelRatioF()))
        for run in runs:
            curve, smooth = self.curves[run.key], self.smooth[run.key]
            if not curve.isVisible():
                continue
            smooth.setVisible(bool(decay) and self.column != WER)
            curve.setOpacity(_BEHIND if smooth.isVisible() else 1.0)
            if self.column == WER:
                places, shares = run.evaluated()
                curve.set_points(run.history.to_axis(places, axis), shares)
                continue
            begin, end = run.history.positions(first, last, axis)
            curve.set_points(*run.history.envelope(self.column, begin, end, pixels, axis))
            if decay:
                mean = run.history.smoothed(self.column, decay)
                x_N, mean_N = mean.envelope(begin, end, pixels)
                smooth.set_points(run.history.to_axis(x_N, axis), mean_N)
            bad, _count = run.history.series(self.column).non_finite_marks(begin, end, pixels)
            self.marks[run.key].set_positions(run.history.to_axis(bad, axis))

    def value_at(self, run: OverlaidRun, position: int) -> float:
        """Give a run's value at a batch; of word error rates the latest before it, NaN for none."""
        if self.column != WER:
            return float(run.history.column(self.column)[position])
        places, shares = run.evaluated()
        known = int(np.searchsorted(places, position, "right"))
        return float(shares[known - 1]) if known else math.nan

    def y_range(self) -> tuple[float, float]:
        """Give the range that holds everything drawn, with air around it."""
        drawn = [curve for curve in self.curves.values() if curve.points and curve.isVisible()]
        heights = [] if self.line is None else [float(self.line.value())]
        lows = [float(curve.lowest) for curve in drawn] + heights
        highs = [float(curve.highest) for curve in drawn] + heights
        if self.column == WER:
            return -0.03, max([1.0, *highs]) + 0.05
        if self.log:
            low, high = min(lows, default=0.0), max(highs, default=1.0)
            return math.floor(4 * (low - 0.1)) / 4, math.ceil(4 * (high + 0.1)) / 4 + 0.07
        low, high = min(lows, default=0.0), max(highs, default=1.0)
        low = min(low, 0.0)
        span = max(high - low, 1e-6)
        return low - 0.03 * span, high + 0.06 * span

    @Slot()
    def _on_y_moved(self) -> None:
        self.y_held = True
