"""Runs over each other, by step: loss above pre-clip norm, with a legend that hides and shows runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyqtgraph as pg
from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
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
from app.runs.flow_layout import FlowLayout
from app.runs.run_colors import RunStyle, run_style
from app.theme import Colors
from core.analysis.history import History

SWATCH_SIZE = QSize(30, 12)
"""A swatch in pixels; its line ends a little before the text beside it."""

_AXIS_WIDTH = 58
_FIRST_SPAN = 10.0
_LEGEND_STYLE = (
    "QToolButton { background: transparent; border: 1px solid transparent; border-radius: 4px;"
    " padding: 2px 4px; }"
    "QToolButton:hover { background: palette(midlight); }"
    "QToolButton:focus { border-color: palette(highlight); }"
)
_NAME_WIDTH = 220  # pixels of a run's name in the legend; the tooltip has all of it


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


def swatch(style: RunStyle, *, shown: bool = True) -> QIcon:
    """Draw a short piece of the run's line, faint where the run is hidden."""
    pixmap = QPixmap(QSize(60, 24))
    pixmap.setDevicePixelRatio(2.0)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setOpacity(1.0 if shown else 0.25)
    pen = QPen(QColor(style.color), 2.5)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    if style.dash:
        pen.setDashPattern([length / 2.5 for length in style.dash])
    painter.setPen(pen)
    painter.drawLine(0, 6, 26, 6)
    painter.end()
    return QIcon(pixmap)


class _Plot(QWidget):
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


class RunLegend(QWidget):
    """Name and line of every run; a click, or space, hides or shows it."""

    toggled = Signal(str, bool)
    """Key of a run, and whether it is shown now."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("run_legend")
        self._buttons: dict[str, QToolButton] = {}
        self._styles: dict[str, RunStyle] = {}
        self._layout = FlowLayout(self, spacing=6)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def set_runs(self, names: dict[str, str], styles: dict[str, RunStyle]) -> None:
        """List exactly these runs; those hidden before stay hidden."""
        for key in [key for key in self._buttons if key not in names]:
            button = self._buttons.pop(key)
            self._layout.removeWidget(button)
            button.deleteLater()
        self._styles = dict(styles)
        for key, name in names.items():
            button = self._buttons.get(key) or self._add(key)
            metrics = button.fontMetrics()
            button.setText(metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, _NAME_WIDTH))
            button.setAccessibleName(f"Show {name}")
            button.setToolTip(f"{name}\nClick to hide or show this run")
            button.setIcon(swatch(styles[key], shown=button.isChecked()))
        self.updateGeometry()

    def button(self, key: str) -> QToolButton:
        """Give the button of a run."""
        return self._buttons[key]

    def shown(self, key: str) -> bool:
        """Whether a run is shown."""
        return self._buttons[key].isChecked()

    def _add(self, key: str) -> QToolButton:
        button = QToolButton()
        button.setObjectName(f"legend.{key}")
        button.setProperty("run", key)
        button.setCheckable(True)
        button.setChecked(True)
        button.setAutoRaise(True)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setIconSize(SWATCH_SIZE)
        # A checked button looks pressed: here the faintness of the line says whether a run is shown.
        button.setStyleSheet(_LEGEND_STYLE)
        button.toggled.connect(self._on_toggled)
        self._buttons[key] = button
        self._layout.addWidget(button)
        return button

    @Slot(bool)
    def _on_toggled(self, shown: bool) -> None:
        button = self.sender()
        assert isinstance(button, QToolButton)
        key = str(button.property("run"))
        button.setIcon(swatch(self._styles[key], shown=shown))
        self.toggled.emit(key, shown)


class OverlayPlots(QWidget):
    """Loss and pre-clip norm of any number of runs over each other. GUI thread only.

    Call ``refresh`` when a history has grown. Dragging and the wheel hold the range until ``fit``.
    """

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("overlay_plots")
        self._colors = colors
        self._runs: tuple[OverlaidRun, ...] = ()
        self._x_held = False
        self.loss = _Plot("Loss", "loss", log=False, labelled=False)
        self.norms = _Plot(
            "Gradient norm before clipping", "grad_norm_pre", log=True, labelled=True
        )
        self.plots = (self.loss, self.norms)
        self.norms.view.setXLink(self.loss.view)
        self.legend = RunLegend()
        self.legend.toggled.connect(self._on_toggled)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        for plot in self.plots:
            split.addWidget(plot)
            plot.view.x_moved.connect(self._on_x_moved)
            plot.view.fit_asked.connect(self.fit)
            plot.canvas.sigDeviceRangeChanged.connect(self.refresh)
        self.loss.view.y_moved.connect(self._on_loss_y_moved)
        self.norms.view.y_moved.connect(self._on_norms_y_moved)
        filled = QWidget()
        column = QVBoxLayout(filled)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(2)
        self.legend.setContentsMargins(6, 0, 6, 0)
        column.addWidget(self.legend)
        column.addWidget(split, 1)
        self._empty = _Empty()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(filled)
        self._stack.addWidget(self._empty)
        self._stack.setCurrentWidget(self._empty)
        self.recolor(colors)

    @property
    def runs(self) -> tuple[OverlaidRun, ...]:
        """The runs drawn, hidden ones too."""
        return self._runs

    def tell_empty(self, title: str, text: str) -> None:
        """Say what stands here while there is nothing to draw."""
        self._empty.tell(title, text)

    def set_runs(self, runs: Sequence[OverlaidRun]) -> None:
        """Overlay exactly these runs; ranges held by the person stay."""
        self._runs = tuple(runs)
        self._restyle()
        self.refresh()

    def style_of(self, key: str) -> RunStyle:
        """Give the colour and dash that a run is drawn with."""
        place = next(i for i, run in enumerate(self._runs) if run.key == key)
        return run_style(place, self._colors)

    def set_line(self, plot: str, value: float | None, label: str = "") -> None:
        """Draw, move or remove (None) a labelled line in the plot ``loss`` or ``norms``."""
        target = self.loss if plot == "loss" else self.norms
        target.set_line(value, label)
        target.recolor(self._colors)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        for plot in self.plots:
            plot.recolor(colors)
        self._empty.recolor(colors)
        self._restyle()

    @Slot()
    def fit(self) -> None:
        """Show every batch of every run."""
        self._x_held = False
        for plot in self.plots:
            plot.y_held = False
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Draw what the histories hold now."""
        some = any(len(run.history) for run in self._runs)
        self._stack.setCurrentIndex(0 if some else 1)
        if not some:
            return
        if not self._x_held:
            newest = max(
                int(run.history.column("step")[-1]) for run in self._runs if len(run.history)
            )
            span = max(_FIRST_SPAN, newest * 1.02)
            self.loss.view.setXRange(-0.01 * span, span, padding=0)
        first, last = self.loss.view.viewRange()[0]
        for plot in self.plots:
            plot.draw(self._runs, first, last)
            if not plot.y_held:
                plot.view.setYRange(*plot.y_range(), padding=0)

    def _restyle(self) -> None:
        styles = {run.key: run_style(i, self._colors) for i, run in enumerate(self._runs)}
        for plot in self.plots:
            plot.set_runs(styles)
        self.legend.set_runs({run.key: run.name for run in self._runs}, styles)
        for run in self._runs:
            self._set_visible(run.key, self.legend.shown(run.key))

    def _set_visible(self, key: str, shown: bool) -> None:
        for plot in self.plots:
            plot.curves[key].setVisible(shown)
            plot.marks[key].setVisible(shown)

    @Slot(str, bool)
    def _on_toggled(self, key: str, shown: bool) -> None:
        self._set_visible(key, shown)
        self.refresh()

    @Slot()
    def _on_x_moved(self) -> None:
        self._x_held = True
        self.refresh()

    @Slot()
    def _on_loss_y_moved(self) -> None:
        self.loss.y_held = True

    @Slot()
    def _on_norms_y_moved(self) -> None:
        self.norms.y_held = True


class _Empty(QWidget):
    """What stands in the place of the plots while there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.palette().ColorRole.Base)
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        self._text = QLabel()
        self._text.setProperty("role", "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(40, 30, 40, 30)
        layout.setSpacing(8)
        layout.addStretch(1)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
            layout.addWidget(label)
        layout.addStretch(1)

    def tell(self, title: str, text: str) -> None:
        self._title.setText(title)
        self._text.setText(text)

    def recolor(self, colors: Colors) -> None:
        palette = self.palette()
        palette.setColor(palette.ColorRole.Base, QColor(colors.base))
        self.setPalette(palette)
