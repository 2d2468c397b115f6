"""One column of any number of runs over each other, by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.monitor.live_curve import (
    BatchAxis,
    DecadeAxis,
    LiveCurve,
    NonFiniteMarks,
    QuietGrid,
    TimeView,
    log_height,
)
from app.runs.run_colors import RunStyle
from app.theme import Colors
from core.analysis.history import History

_AXIS_WIDTH = 58


@dataclass(frozen=True, slots=True)
class OverlaidRun:
    """One run to draw. The history may go on growing."""

    key: str
    name: str
    history: History


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
    """One column of all runs. Ranges are set by OverlayPlots."""

    def __init__(self, title: str, column: str, *, log: bool, labelled: bool) -> None:
        super().__init__()
        self.setObjectName(f"overlay.{column}")
        self.column = column
        self.log = log
        self.y_held = False
        self.view = TimeView()
        left = (DecadeAxis if log else pg.AxisItem)(orientation="left")
        left.setWidth(_AXIS_WIDTH)
        left.enableAutoSIPrefix(False)
        bottom = BatchAxis(orientation="bottom")
        bottom.enableAutoSIPrefix(False)
        bottom.setStyle(showValues=labelled, tickLength=-4 if labelled else 0)
        bottom.setHeight(36 if labelled else 6)
        if labelled:
            bottom.setLabel("batch")
        self._axes = (left, bottom)
        # PlotWidget would bring seven menus that nobody opens.
        self.canvas = pg.GraphicsView()
        self.canvas.setFrameShape(self.canvas.Shape.NoFrame)
        grid = pg.GraphicsLayout()
        grid.setContentsMargins(0, 6, 10, 0)
        grid.setSpacing(0)
        grid.addItem(left, 0, 0)
        grid.addItem(self.view, 0, 1)
        grid.addItem(bottom, 1, 1)
        left.linkToView(self.view)
        bottom.linkToView(self.view)
        self.canvas.setCentralItem(grid)
        self.canvas.setAccessibleName(title)
        self._grid = QuietGrid(left, "#888888")
        self.view.addItem(self._grid, ignoreBounds=True)
        self.curves: dict[str, DashedCurve] = {}
        self.marks: dict[str, NonFiniteMarks] = {}
        self.line: pg.InfiniteLine | None = None
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
            self.view.removeItem(self.marks.pop(key))
        for place, (key, style) in enumerate(styles.items()):
            if key not in self.curves:
                self.curves[key] = DashedCurve(style, log=self.log)
                self.marks[key] = NonFiniteMarks(style.color)
                self.view.addItem(self.curves[key], ignoreBounds=True)
                self.view.addItem(self.marks[key], ignoreBounds=True)
            self.curves[key].restyle(style)
            self.curves[key].setZValue(-place / (len(styles) + 1))  # the first is on top
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
        self.line.setPos(float(log_height(value)) if self.log else value)
        self._legend.setText(label)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme, except those of runs."""
        self.canvas.setBackground(colors.base)
        for axis in self._axes:
            axis.setPen(pg.mkPen(colors.border))
            axis.setTextPen(pg.mkPen(colors.plot_axis))
        self._grid.recolor("#252a31" if colors.dark else colors.window)
        if self.line is not None:
            self.line.setPen(pg.mkPen(colors.limit, width=1, style=Qt.PenStyle.DashLine))

    def draw(self, runs: Sequence[OverlaidRun], first: float, last: float) -> None:
        """Show the batches from ``first`` to ``last`` of every run that is not hidden."""
        pixels = max(1, round(self.view.width() * self.canvas.devicePixelRatioF()))
        for run in runs:
            curve, marks = self.curves[run.key], self.marks[run.key]
            if not curve.isVisible():
                continue
            begin, end = run.history.positions(first, last)
            curve.set_points(*run.history.envelope(self.column, begin, end, pixels))
            places, _count = run.history.series(self.column).non_finite_marks(begin, end, pixels)
            marks.set_positions(run.history.to_axis(places, "step"))

    def y_range(self) -> tuple[float, float]:
        """Give the range that holds everything drawn, with air around it."""
        drawn = [curve for curve in self.curves.values() if curve.points and curve.isVisible()]
        heights = [] if self.line is None else [float(self.line.value())]
        lows = [float(curve.lowest) for curve in drawn] + heights
        highs = [float(curve.highest) for curve in drawn] + heights
        if self.log:
            low, high = min(lows, default=0.0), max(highs, default=1.0)
            return math.floor(4 * (low - 0.1)) / 4, math.ceil(4 * (high + 0.1)) / 4 + 0.07
        low, high = min(lows, default=0.0), max(highs, default=1.0)
        low = min(low, 0.0)
        span = max(high - low, 1e-6)
        return low - 0.03 * span, high + 0.06 * span
