"""The live plots: loss above gradient norms, with one x axis between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QAction, QIcon, QPainter, QPaintEvent, QPalette, QPen, QPixmap
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSplitter,
    QStackedLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.monitor.live_curve import (
    BatchAxis,
    DecadeAxis,
    LiveCurve,
    NonFiniteMarks,
    QuietGrid,
    TimeView,
    log_height,
)
from app.monitor.pacing import Pacer
from app.theme import Colors
from core.metrics.history import History
from core.training.records import LARGE_GRAD_NORM, StepRecord

_AXIS_WIDTH = 58
_FIRST_SPAN = 50.0
"""Batches on the x axis before there are more."""
_BATCHES_BEFORE, _BATCHES_AFTER = 20, 80
"""Neighbours of a batch that was asked for."""


@dataclass(frozen=True, slots=True)
class _CurveSpec:
    column: str
    name: str
    color: str  # a field of Colors
    tip: str


_LOSS = _CurveSpec("loss", "loss", "loss", "Summed over a sentence, averaged over the batch")
_NORM_PRE = _CurveSpec(
    "grad_norm_pre", "before clipping", "norm_pre", "L2 norm of all gradients of the batch"
)
_NORM_POST = _CurveSpec(
    "grad_norm_post", "after clipping", "norm_post", "What the optimiser was given"
)


class _Canvas(pg.GraphicsView):  # type: ignore[misc]
    """A view with its two axes that counts its painting in the pacer.

    pyqtgraph's PlotWidget would bring seven menus that nobody opens.
    """

    def __init__(
        self, pacer: Pacer, view: TimeView, left: pg.AxisItem, bottom: pg.AxisItem
    ) -> None:
        super().__init__()
        self._pacer = pacer
        self.setFrameShape(self.Shape.NoFrame)
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, 8, 10, 0)
        layout.setSpacing(0)
        layout.addItem(left, 0, 0)
        layout.addItem(view, 0, 1)
        layout.addItem(bottom, 1, 1)
        left.linkToView(view)
        bottom.linkToView(view)
        self.setCentralItem(layout)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint, and say what it cost."""
        with self._pacer.measure():
            super().paintEvent(event)


class _Legend(QWidget):
    """Name, colour and newest value of a curve; a click hides or shows it."""

    toggled = Signal(bool)

    def __init__(self, spec: _CurveSpec) -> None:
        super().__init__()
        self._button = QToolButton()
        self._button.setObjectName(f"legend.{spec.column}")
        self._button.setAccessibleName(f"Show {spec.name}")
        self._button.setText(spec.name)
        self._button.setToolTip(f"{spec.tip}\nClick to hide or show the curve")
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setAutoRaise(True)
        self._button.setIconSize(QSize(18, 12))
        self._button.clicked.connect(self._on_clicked)
        self._value = QLabel("–")
        self._value.setObjectName(f"newest.{spec.column}")
        self._value.setMinimumWidth(self._value.fontMetrics().horizontalAdvance("0000.00"))
        self._value.setAccessibleName(f"Newest {spec.name}")
        self._shown = True
        self._color = "#000000"
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._button)
        layout.addWidget(self._value)

    def recolor(self, color: str) -> None:
        """Draw the swatch in the colour of the curve."""
        self._color = color
        pixmap = QPixmap(QSize(36, 24))
        pixmap.setDevicePixelRatio(2.0)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setOpacity(1.0 if self._shown else 0.25)
        painter.setPen(QPen(pg.mkColor(color), 3))
        painter.drawLine(1, 6, 17, 6)
        painter.end()
        self._button.setIcon(QIcon(pixmap))

    def show_value(self, value: float | None) -> None:
        """Show the newest value; None for none."""
        self._value.setText("–" if value is None else _number(value))

    @Slot()
    def _on_clicked(self) -> None:
        self._shown = not self._shown
        self.recolor(self._color)
        self._value.setEnabled(self._shown)
        self.toggled.emit(self._shown)


class LivePlot(QWidget):
    """One plot with its heading and legend. Ranges are set by MonitorView."""

    def __init__(
        self, title: str, specs: Sequence[_CurveSpec], pacer: Pacer, *, log: bool, labelled: bool
    ) -> None:
        super().__init__()
        self.setObjectName(f"plot.{specs[0].column}")
        self.log = log
        self.y_held = False
        """Whether the person set the y range."""
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
        self.canvas = _Canvas(pacer, self.view, left, bottom)
        self.canvas.setAccessibleName(title)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self._grid = QuietGrid(left, "#888888")
        self._specs = tuple(specs)
        self.curves = {spec.column: LiveCurve("#888888", log=log) for spec in specs}
        self.marks = NonFiniteMarks("#888888")
        self.lines: dict[str, pg.InfiniteLine] = {}
        self.view.addItem(self._grid, ignoreBounds=True)
        for curve in self.curves.values():
            self.view.addItem(curve, ignoreBounds=True)
        self.view.addItem(self.marks, ignoreBounds=True)

        heading = QLabel(title)
        heading.setProperty("role", "heading")
        self.strip = QHBoxLayout()
        self.strip.setContentsMargins(10, 4, 6, 0)
        self.strip.setSpacing(10)
        self.strip.addWidget(heading)
        self._legends: dict[str, _Legend] = {}
        for spec in specs:
            legend = _Legend(spec)
            legend.toggled.connect(self.curves[spec.column].setVisible)
            self._legends[spec.column] = legend
            self.strip.addWidget(legend)
        self.strip.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(self.strip)
        layout.addWidget(self.canvas, 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(110)

    def add_line(self, name: str, value: float, label: str) -> None:
        """Draw a labelled horizontal line, or move the one of that name.

        Args:
            name: Field of Colors, and the key in ``lines``.
            value: Its height, not a logarithm.
            label: What the line says of itself, at its right end.
        """
        height = float(log_height(value)) if self.log else value
        line = self.lines.get(name)
        if line is None:
            line = pg.InfiniteLine(
                angle=0,
                label=label,
                labelOpts={"position": 0.995, "anchors": [(1.0, 1.0), (1.0, 1.0)]},
            )
            self.lines[name] = line
            self.view.addItem(line, ignoreBounds=True)
        line.label.setFormat(label)
        line.setPos(height)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self.canvas.setBackground(colors.base)
        for axis in self._axes:
            axis.setPen(pg.mkPen(colors.border))
            axis.setTextPen(pg.mkPen(colors.plot_axis))
        self._grid.recolor(colors.window if not colors.dark else "#252a31")
        for spec in self._specs:
            color = str(getattr(colors, spec.color))
            self.curves[spec.column].recolor(color)
            self._legends[spec.column].recolor(color)
        self.marks.recolor(colors.mark)
        for name, line in self.lines.items():
            color = str(getattr(colors, name))
            line.setPen(pg.mkPen(color, width=1, style=Qt.PenStyle.DashLine))
            line.label.setColor(color)

    def draw(self, history: History, first: float, last: float) -> None:
        """Show the batches from ``first`` to ``last`` as the screen can show them."""
        pixels = max(1, round(self.view.width() * self.canvas.devicePixelRatioF()))
        begin, end = history.positions(first, last)
        for column, curve in self.curves.items():
            curve.set_points(*history.envelope(column, begin, end, pixels))
        bad = [history.non_finite_steps(begin, end, column) for column in self.curves]
        self.marks.set_positions(np.concatenate(bad))

    def show_newest(self, record: StepRecord | None) -> None:
        """Show the newest values in the legend."""
        for column, legend in self._legends.items():
            legend.show_value(None if record is None else getattr(record, column))

    def data_range(self) -> tuple[float, float] | None:
        """Give the lowest and highest height drawn, None when nothing is."""
        drawn = [curve for curve in self.curves.values() if curve.points and curve.isVisible()]
        if not drawn:
            return None
        return min(c.lowest for c in drawn), max(c.highest for c in drawn)


class MonitorView(QWidget):
    """Loss and gradient norms of the run shown, following the newest batch until one pans back.

    GUI thread only. ``extend`` takes records at any rate and is cheap; ``redraw`` paints, and is called
    when the pacer gives a turn.

    Args:
        follow: Checkable action that says whether the newest batch is kept in sight.
        fit: Action that shows the whole run.
        colors: Colours of the theme in force.
    """

    def __init__(
        self, follow: QAction, fit: QAction, colors: Colors, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("monitor")
        self.setAccessibleName("Plots of the run")
        self.pacer = Pacer()
        self.history = History()
        self._newest: StepRecord | None = None
        self._dirty = False  # something came since the last redraw
        self._stale = True  # what is in sight must be drawn whether or not something came
        self._follow_action = follow
        self._follow = True
        self._span: float | None = None  # None: the whole run
        self._right = _FIRST_SPAN
        self._max_norm = 1.0
        self._setting_range = False

        self.loss = LivePlot("Loss", [_LOSS], self.pacer, log=False, labelled=False)
        self.norms = LivePlot(
            "Gradient norm", [_NORM_PRE, _NORM_POST], self.pacer, log=True, labelled=True
        )
        self.plots = (self.loss, self.norms)
        self.norms.view.setXLink(self.loss.view)
        self._colors = colors
        for action in (follow, fit):
            button = QToolButton()
            button.setDefaultAction(action)
            button.setObjectName(f"button.{action.objectName()}")
            button.setAutoRaise(True)
            button.setIconSize(QSize(16, 16))
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.loss.strip.addWidget(button)
        self._split = split = QSplitter(Qt.Orientation.Vertical)
        split.setObjectName("plots")
        split.setChildrenCollapsible(False)
        for plot in self.plots:
            split.addWidget(plot)
            plot.view.x_moved.connect(self._on_x_moved)
            plot.view.fit_asked.connect(self.fit)
            plot.canvas.sigDeviceRangeChanged.connect(self._on_resized)
        self.loss.view.y_moved.connect(self._on_loss_y_moved)
        self.norms.view.y_moved.connect(self._on_norms_y_moved)
        self._empty = _EmptyPlots()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(split)
        self._stack.addWidget(self._empty)
        self._stack.setCurrentWidget(self._empty)
        follow.toggled.connect(self._on_follow_toggled)
        fit.triggered.connect(self.fit)
        follow.setChecked(True)
        self.set_max_norm(1.0)
        self.recolor(colors)
        self._apply_ranges()

    def set_hint(self, title: str, text: str) -> None:
        """Say in the empty view what to do for curves."""
        self._empty.tell(title, text)

    def set_max_norm(self, max_norm: float) -> None:
        """Draw the clipping line at ``max_norm``, and the line of large norms."""
        self._max_norm = max_norm
        self.norms.add_line("limit", max_norm, f"max_norm {max_norm:g}")
        self.norms.add_line("large", LARGE_GRAD_NORM, f"large: above {LARGE_GRAD_NORM:g}")
        self.norms.recolor(self._colors)

    def clear(self, history: History | None = None) -> None:
        """Show another run: an empty one, or the batches of ``history``."""
        self.history = History() if history is None else history
        self._newest = None
        self._span, self._right = None, _FIRST_SPAN
        for plot in self.plots:
            plot.y_held = False
            plot.show_newest(None)
        self._follow_action.setChecked(True)
        self._dirty = True
        self.redraw()

    def extend(self, records: Sequence[StepRecord]) -> None:
        """Take over finished batches; nothing is painted yet."""
        if not records:
            return
        self.history.extend(records)
        self._newest = records[-1]
        self._dirty = True

    @property
    def newest(self) -> int:
        """Number of the newest batch, -1 when there is none."""
        return int(self.history.column("step")[-1]) if len(self.history) else -1

    @property
    def dirty(self) -> bool:
        """Whether something came since the last redraw."""
        return self._dirty

    def redraw(self) -> None:
        """Show everything that came."""
        with self.pacer.measure():
            self._dirty = False
            empty = len(self.history) == 0
            wanted = self._empty if empty else self._split
            if self._stack.currentWidget() is not wanted:
                self._stack.setCurrentWidget(wanted)
            for plot in self.plots:
                plot.show_newest(self._newest)
            first, last = self._x_range()
            if not self._follow and last < self.newest and not self._stale:
                return  # what is in sight cannot change any more
            self._draw(first, last)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        for plot in self.plots:
            plot.recolor(colors)

    @Slot()
    def fit(self) -> None:
        """Show the whole run, with ranges that follow it."""
        self._span = None
        for plot in self.plots:
            plot.y_held = False
        self._right = max(_FIRST_SPAN, self.newest * 1.02)
        self._set_follow(True)
        self._draw(*self._x_range())

    @Slot(int)
    def show_batch(self, step: int) -> None:
        """Bring a batch into sight, with more of what came after it; the newest is no longer followed."""
        first, last = float(step - _BATCHES_BEFORE), float(step + _BATCHES_AFTER)
        self._set_follow(False)
        self._setting_range = True
        _set_range(self.loss.view, 0, first, last)
        self._setting_range = False
        self._draw(first, last)

    def _x_range(self) -> tuple[float, float]:
        if not self._follow:
            first, last = self.loss.view.viewRange()[0]
            return float(first), float(last)
        # The right end moves in strides, so that the axes need no painting for each batch.
        if self.newest >= self._right:
            stride = self.newest / 4 if self._span is None else self._span / 12
            self._right = self.newest + max(stride, 1.0)
        if self._span is None:
            return -0.01 * self._right, self._right
        return self._right - self._span, self._right

    def _draw(self, first: float, last: float) -> None:
        for plot in self.plots:
            plot.draw(self.history, first, last)
        self._stale = False
        self._apply_ranges()

    def _apply_ranges(self) -> None:
        self._setting_range = True
        try:
            first, last = self._x_range()
            _set_range(self.loss.view, 0, first, last)
            if not self.loss.y_held:
                _set_range(self.loss.view, 1, *self._loss_range())
            if not self.norms.y_held:
                _set_range(self.norms.view, 1, *self._norm_range())
        finally:
            self._setting_range = False

    def _loss_range(self) -> tuple[float, float]:
        drawn = self.loss.data_range()
        top_now = self.loss.view.viewRange()[1][1] / 1.04
        highest = drawn[1] if drawn is not None else 10.0
        top = _nice_ceiling(highest)
        if highest <= top_now and top > 0.6 * top_now:
            top = top_now  # stays until it is clearly too large
        bottom = min(0.0, drawn[0] * 1.05) if drawn is not None else 0.0
        return bottom - 0.02 * top, 1.04 * top

    def _norm_range(self) -> tuple[float, float]:
        drawn = self.norms.data_range() or (0.0, 0.0)
        low = min(drawn[0], float(log_height(self._max_norm))) - 0.2
        high = max(drawn[1], float(log_height(LARGE_GRAD_NORM))) + 0.25
        now_low, now_high = self.norms.view.viewRange()[1]
        low, high = math.floor(low * 4) / 4, math.ceil(high * 4) / 4
        if 0.0 <= low - now_low <= 0.5:
            low = now_low
        if 0.0 <= now_high - high <= 0.5:
            high = now_high
        return low, high

    def _set_follow(self, follow: bool) -> None:
        self._follow = follow
        self._follow_action.setChecked(follow)

    @Slot(bool)
    def _on_follow_toggled(self, follow: bool) -> None:
        if follow == self._follow:
            return
        if follow:
            first, last = self.loss.view.viewRange()[0]
            self._span = None if first <= 0.0 else last - first
            self._right = self.newest + 0.0 if self._span is None else self.newest + self._span / 12
            self._right = max(self._right, _FIRST_SPAN if self._span is None else 0.0)
        self._follow = follow
        self._stale = True
        self._draw(*self._x_range())

    @Slot()
    def _on_x_moved(self) -> None:
        first, last = self.loss.view.viewRange()[0]
        follow = last >= self.newest
        if follow:
            self._span = None if first <= 0.0 else last - first
            self._right = last
        self._set_follow(follow)
        with self.pacer.measure():
            self._draw(first, last)

    @Slot()
    def _on_loss_y_moved(self) -> None:
        self.loss.y_held = True

    @Slot()
    def _on_norms_y_moved(self) -> None:
        self.norms.y_held = True

    @Slot()
    def _on_resized(self) -> None:
        self._stale = self._dirty = True


class _EmptyPlots(QWidget):
    """What stands in the place of the plots before the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("empty_plots")
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        font = self._title.font()
        font.setPointSizeF(font.pointSizeF() * 1.35)
        self._title.setFont(font)
        self._text = QLabel()
        self._text.setProperty("role", "muted")
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(40, 40, 40, 40)
        layout.setSpacing(10)
        layout.addStretch(1)
        layout.addWidget(self._title)
        layout.addWidget(self._text)
        layout.addStretch(1)

    def tell(self, title: str, text: str) -> None:
        self._title.setText(title)
        self._text.setText(text)


def _set_range(view: TimeView, axis: int, low: float, high: float) -> None:
    """Set one range unless it is in force already: the same range again would paint the axes again."""
    if view.viewRange()[axis] != [low, high]:
        (view.setXRange if axis == 0 else view.setYRange)(low, high, padding=0)


def _nice_ceiling(value: float) -> float:
    """Give the next larger number of a row that reads well on an axis."""
    if not math.isfinite(value) or value <= 0.0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if factor * decade >= value:
            return factor * decade
    return 10.0 * decade


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if abs(value) < 10_000 else f"{value:.3g}"
