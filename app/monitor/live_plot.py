"""One live plot: curves, marks, limit lines, a distribution beside them, heading and legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPoint, Qt, Signal, Slot
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from app.monitor.axes import HeightAxis, ShareAxis, XAxis
from app.monitor.legend import CurveSpec, Legend, number
from app.monitor.live_curve import (
    LiveCurve,
    NonFiniteMarks,
    Numbers,
    QuietGrid,
    TimeView,
    log_height,
)
from app.monitor.marks import (
    CrosshairLine,
    Distribution,
    EpochLines,
    EventMarks,
    OutsideMarks,
    dashed,
)
from app.monitor.pacing import Pacer
from app.monitor.ranges import LOG_MARGINS, linear_range, log_range, usual_range
from app.theme import Colors
from core.analysis.envelope import Series
from core.analysis.history import Axis, History
from signscope.records import RunEventRecord

AXIS_WIDTH = 58
SIDE_WIDTH = 76
SHARE_WINDOW = 100
"""Batches that the share of clipped ones is taken over."""
AT_ONCE = 60_000
"""Batches that one redraw works through for a curve that is computed, so that none takes long."""
_NARROW_PX = 470
_SHARE = "clipped_share"


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """What one plot shows."""

    title: str
    curves: tuple[CurveSpec, ...]
    log: bool = False
    distribution: str = ""
    """The column whose distribution stands beside the curves."""
    share: bool = False
    """Heights are shares between 0 and 1."""
    top: bool = False
    """Whether it is the uppermost plot, which tells epochs and events."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which part of which history to draw, and how."""

    history: History
    begin: int
    end: int
    axis: Axis
    decay: float


_LABEL_PX = 22.0
"""Room that the label of a line needs above or below it."""


class Canvas(pg.GraphicsView):  # type: ignore[misc]
    """A view with its axes that counts its painting in the pacer.

    pyqtgraph's PlotWidget would bring seven menus that nobody opens.
    """

    pointed = Signal(float)
    """The mouse is at this x of the view."""
    left = Signal()
    """The mouse is no longer over the plot."""

    def __init__(
        self, pacer: Pacer, view: TimeView, side: pg.ViewBox, left: pg.AxisItem, bottom: pg.AxisItem
    ) -> None:
        super().__init__()
        self._pacer = pacer
        self._view = view
        self._side = side
        self.focus_color = QColor()
        self.marks: EventMarks | None = None
        self.setFrameShape(self.Shape.NoFrame)
        self._grid = pg.GraphicsLayout()
        self._grid.setContentsMargins(0, 6, 10, 0)
        self._grid.setSpacing(0)
        self._grid.addItem(left, 0, 0)
        self._grid.addItem(view, 0, 1)
        self._grid.addItem(side, 0, 2)
        self._grid.addItem(bottom, 1, 1)
        left.linkToView(view)
        bottom.linkToView(view)
        self.setCentralItem(self._grid)

    def set_side(self, shown: bool) -> None:
        """Make room for the distribution, or give it to the curves."""
        self._side.setVisible(shown)
        width = SIDE_WIDTH if shown else 0
        self._grid.layout.setColumnFixedWidth(2, width)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint, and say what it cost."""
        with self._pacer.measure():
            super().paintEvent(event)
            if self.hasFocus():
                painter = QPainter(self.viewport())
                painter.setPen(QPen(self.focus_color, 1))
                painter.drawRect(self.viewport().rect().adjusted(0, 0, -1, -1))
                painter.end()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show that keys go here."""
        super().focusInEvent(event)
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Show that keys go elsewhere."""
        super().focusOutEvent(event)
        self.viewport().update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave keys to the monitor."""
        event.ignore()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell where the mouse is, unless it drags."""
        super().mouseMoveEvent(event)
        if event.buttons() == Qt.MouseButton.NoButton:
            self._tell_pointed(event.position().toPoint())

    def leaveEvent(self, event: QEvent) -> None:
        """Tell that the mouse went away."""
        super().leaveEvent(event)
        self.left.emit()

    def viewportEvent(self, event: QEvent) -> bool:
        """Say what a sign stands for."""
        if isinstance(event, QHelpEvent) and self.marks is not None:
            rect = self._view.viewRect()
            pixel = self._view.viewPixelSize()
            at = self._view.mapSceneToView(self.mapToScene(event.pos()))
            near = (
                self.marks.near(at.x(), 8 * pixel[0]) if at.y() < rect.top() + 20 * pixel[1] else []
            )
            if near:
                told = [f"{each.kind.value} before batch {each.step}: {each.text}" for each in near]
                QToolTip.showText(event.globalPos(), "\n".join(told[-8:]), self)
            else:
                QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))

    def _tell_pointed(self, place: QPoint) -> None:
        at = self.mapToScene(place)
        if self._view.sceneBoundingRect().contains(at):
            self.pointed.emit(self._view.mapSceneToView(at).x())
        else:
            self.left.emit()


class LivePlot(QWidget):
    """One plot with its heading and legend. x ranges are set by MonitorView."""

    x_moved = Signal(float, float)
    """The person moved x to this range."""
    changed = Signal()
    """What is to be drawn changed: a curve was hidden or shown, or the scale."""

    def __init__(self, spec: PlotSpec, pacer: Pacer) -> None:
        super().__init__()
        self.setObjectName(f"plot.{spec.curves[0].column}")
        self._spec = spec
        self.y_held = False
        """Whether the person set the y range."""
        self.view = TimeView()
        self.side = pg.ViewBox(enableMenu=False, enableMouse=False)
        self.side.setXRange(0.0, 1.08, padding=0)
        left = (ShareAxis if spec.share else HeightAxis)(orientation="left")
        left.setWidth(AXIS_WIDTH)
        left.enableAutoSIPrefix(False)
        self.bottom = XAxis()
        self.left_axis = left
        self.label_bottom(False)
        self.canvas = Canvas(pacer, self.view, self.side, left, self.bottom)
        self.canvas.setAccessibleName(spec.title)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self._grid = QuietGrid(left, "#888888")
        self.epoch_lines = EpochLines(labelled=spec.top)
        self.curves = {each.column: LiveCurve("#888888") for each in spec.curves}
        self.smooth = {each.column: LiveCurve("#888888") for each in spec.curves}
        self.marks = NonFiniteMarks("#888888")
        self.events = EventMarks()
        self.outside = OutsideMarks(self._height_name)
        self.crosshair = CrosshairLine()
        self.distribution = Distribution()
        self.lines: dict[str, pg.InfiniteLine] = {}
        self._line_values: dict[str, float] = {}
        self._below: dict[str, bool] = {}
        for item in (
            self._grid,
            self.epoch_lines,
            *self.curves.values(),
            *self.smooth.values(),
            self.events,
            self.marks,
            self.outside,
            self.crosshair,
        ):
            self.view.addItem(item, ignoreBounds=True)
        self.side.addItem(self.distribution, ignoreBounds=True)
        if spec.top:
            self.canvas.marks = self.events
        self._colors: Colors | None = None
        self.all_values = False
        """Whether outliers stretch the range."""
        self.log = spec.log
        self._build(spec)
        self._scale()
        self.view.x_moved.connect(self._on_x_moved)
        self.view.y_moved.connect(self._on_y_moved)
        self.view.sigYRangeChanged.connect(self._on_y_changed)

    def _build(self, spec: PlotSpec) -> None:
        self._heading = QLabel(spec.title)
        self._heading.setProperty("role", "heading")
        strip = QHBoxLayout()
        strip.setContentsMargins(10, 2, 8, 0)
        strip.setSpacing(8)
        strip.addWidget(self._heading)
        self.legends: dict[str, Legend] = {}
        for each in spec.curves:
            legend = Legend(each)
            legend.toggled.connect(self._on_toggled)
            self.legends[each.column] = legend
            strip.addWidget(legend)
        strip.addStretch(1)
        self.log_button = QToolButton()
        self.log_button.setObjectName(f"log.{spec.curves[0].column}")
        self.log_button.setCheckable(True)
        self.log_button.setChecked(spec.log)
        self.log_button.setText("log")
        self.log_button.setProperty("control", True)  # pictures leave it out
        self.log_button.setToolTip(
            f"Logarithmic scale ({'N' if spec.log else 'L'})\nOff: linear scale"
        )
        self.log_button.setAccessibleName(f"{spec.title} on a logarithmic scale")
        self.log_button.setAutoRaise(True)
        self.log_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.log_button.setVisible(not spec.share)
        self.log_button.toggled.connect(self._on_log)
        strip.addWidget(self.log_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(strip)
        layout.addWidget(self.canvas, 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(88 if spec.share else 100)

    # ------------------------------------------------------------ what it shows

    def remove_line(self, name: str) -> None:
        """Take away the horizontal line of that name, if there is one."""
        line = self.lines.pop(name, None)
        if line is not None:
            self.view.removeItem(line)
            del self._line_values[name], self._below[name]

    def add_line(self, name: str, value: float, label: str, *, below: bool = False) -> None:
        """Draw a labelled horizontal line, or move the one of that name.

        Args:
            name: Field of Colors, and the key in ``lines``.
            value: Its height, not a logarithm.
            label: What the line says of itself, at its right end.
            below: Whether it says so below the line, where there are fewer curves.
        """
        line = self.lines.get(name)
        if line is None:
            line = pg.InfiniteLine(
                angle=0,
                label=label,
                labelOpts={"position": 0.995, "anchors": [(1.0, 1.0)] * 2},
            )
            line.setZValue(
                -5
            )  # a curve that lies on its limit is seen, and so is one behind the label
            self.lines[name] = line
            self.view.addItem(line, ignoreBounds=True)
        line.label.setFormat(label)
        self._line_values[name] = value
        self._below[name] = below
        self._place_label(name, line)
        line.setPos(self.height_of(value))

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        self.canvas.setBackground(colors.base)
        self.canvas.focus_color = QColor(colors.accent)
        for axis in (self.left_axis, self.bottom):
            axis.setPen(pg.mkPen(colors.border))
            axis.setTextPen(pg.mkPen(colors.plot_axis))
        self._grid.recolor(colors.window if not colors.dark else "#252a31")
        for each in self._spec.curves:
            color = self.color_of(each)
            self.smooth[each.column].recolor(color)
            self.legends[each.column].recolor(color)
            if each.column == self._spec.distribution:
                self.distribution.recolor(color)
        self.marks.recolor(colors.mark)
        for item in (self.epoch_lines, self.events, self.outside, self.crosshair):
            item.recolor(colors)
        for name, line in self.lines.items():
            color = str(getattr(colors, name))
            line.setPen(dashed(color))
            line.label.setColor(color)
            back = QColor(colors.base)
            back.setAlphaF(0.5)
            line.label.fill = pg.mkBrush(back)
        self._shade()

    def color_of(self, spec: CurveSpec) -> str:
        """Give the colour of a curve in the theme in force."""
        return str(getattr(self._colors, spec.color)) if self._colors is not None else "#888888"

    def show_side(self, shown: bool) -> None:
        """Make room beside the curves, and show the distribution there where the plot has one."""
        self.canvas.set_side(shown)

    def set_axis(self, axis: Axis) -> None:
        """Label x for another meaning."""
        self.bottom.set_mode(axis)

    def label_bottom(self, labelled: bool, *, named: bool = True) -> None:
        """Label x below this plot, or leave that to a plot below it; ``named`` says what x is, too."""
        self.bottom.setStyle(showValues=labelled, tickLength=-4 if labelled else 0)
        self.bottom.setHeight((36 if named else 20) if labelled else 6)
        self.bottom.named = labelled and named
        self.bottom.set_mode(self.bottom.mode)

    def source(self, history: History, column: str) -> Series:
        """Give a curve of the history; one that is computed may still be shorter than it."""
        if column == _SHARE:
            return history.clipped_share(SHARE_WINDOW, AT_ONCE)
        return history.series(column)

    def draw(self, stretch: Stretch) -> bool:
        """Show a stretch as the screen can show it; say whether nothing is still being computed."""
        history = stretch.history
        pixels = max(1, round(self.view.width() * self.canvas.devicePixelRatioF()))
        whole = True
        marked = []
        for column, curve in self.curves.items():
            if not self.legends[column].shown:
                continue
            series = self.source(history, column)
            whole &= len(series) == len(history)
            marked.append(self._put(curve, series, stretch, pixels))
            if stretch.decay and column != _SHARE:
                mean = history.smoothed(column, stretch.decay, AT_ONCE)
                whole &= len(mean) == len(history)
                self._put(self.smooth[column], mean, stretch, pixels)
        self.marks.set_positions(np.concatenate(marked) if marked else np.empty(0))
        smoothed = bool(stretch.decay) and not self._spec.share
        for column, curve in self.smooth.items():
            curve.setVisible(smoothed and self.legends[column].shown)
        if smoothed != self._smoothed:
            self._smoothed = smoothed
            self._shade()
        if self._spec.distribution and self.side.isVisible():
            histogram = history.histogram(self._spec.distribution, AT_ONCE)
            self.distribution.set_histogram(histogram, log=self.log)
            whole &= histogram.total == len(history)
        self.fit_y()
        return whole

    def set_epochs(self, x_N: Numbers, epochs_N: Numbers) -> None:
        """Show where epochs begin."""
        self.epoch_lines.set_epochs(x_N, epochs_N)

    def set_events(self, x_N: Numbers, events: Sequence[RunEventRecord]) -> None:
        """Mark events at these x."""
        self.events.set_events(x_N, events)

    def show_newest(self, history: History) -> None:
        """Show the newest values in the legend."""
        for column, legend in self.legends.items():
            series = self.source(history, column)
            legend.show_value(float(series.values[-1]) if len(series) else None)

    def show_crosshair(self, history: History, position: int | None, x: float = 0.0) -> None:
        """Put the crosshair at a batch whose x is known; None hides it."""
        if position is None:
            self.crosshair.put(None)
            return
        dots = []
        for each in self._spec.curves:
            series = self.source(history, each.column)
            if self.legends[each.column].shown and position < len(series):
                value = float(series.values[position])
                dots.append((self.height_of(value), self.color_of(each)))
        self.crosshair.put(x, dots)

    def height_of(self, value: float) -> float:
        """Give where ``value`` is in the view."""
        return float(log_height(value)) if self.log else value

    # ------------------------------------------------------------ ranges

    def data_range(self) -> tuple[float, float] | None:
        """Give the lowest and highest height drawn, outliers included; None when nothing is."""
        drawn = self._drawn()
        if not drawn:
            return None
        return min(float(c.lowest) for c in drawn), max(float(c.highest) for c in drawn)

    def fit_y(self) -> None:
        """Fit y to what is drawn unless the person holds it, and mark what is outside."""
        if not self.y_held:
            set_range(self.view, 1, *self._y_range())
        self._mark_outside()

    def _drawn(self) -> list[LiveCurve]:
        return [curve for curve in self.curves.values() if curve.points and curve.isVisible()]

    def _y_range(self) -> tuple[float, float]:
        if self._spec.share:
            return -0.06, 1.06
        now = self.view.viewRange()[1]
        bounds = [bound for _, bound in self._bounds()]
        if not self.log:
            # On a linear scale a limit far above the curve would press it flat.
            bounds = [0.0, *(bound for name, bound in self._bounds() if name == "limit")]
        low, high = min(bounds, default=np.inf), max(bounds, default=-np.inf)
        drawn = self._drawn()
        if drawn:
            heights = np.concatenate([curve.heights_N for curve in drawn])
            if self.all_values:
                low, high = min(low, float(heights.min())), max(high, float(heights.max()))
            else:
                low, high = usual_range(heights, low, high)
        if low > high:
            low, high = 0.0, 1.0
        if self.log:
            return log_range(*self._with_labels(low, high), (now[0], now[1]))
        return linear_range(low, high if drawn else 10.0, (now[0], now[1]))

    def _with_labels(self, low: float, high: float) -> tuple[float, float]:
        """Widen a range so that what the lines say of themselves has room below or above them."""
        # Told by the height of the view alone: by the range in force it would grow with each redraw.
        room = min(_LABEL_PX / max(1.0, self.view.height()), 0.2)
        span = (high - low) / (1.0 - 2.0 * room)
        for name, bound in self._bounds():
            if self._below[name]:
                low = min(low, bound - room * span + LOG_MARGINS[0])
            else:
                high = max(high, bound + room * span - LOG_MARGINS[1])
        return low, high

    def _bounds(self) -> list[tuple[str, float]]:
        return [(name, self.height_of(value)) for name, value in self._line_values.items()]

    def _mark_outside(self) -> None:
        low, high = self.view.viewRange()[1]
        curves = [
            (curve.x_N, curve.heights_N, self.color_of(spec))
            for spec in self._spec.curves
            if (curve := self.curves[spec.column]).isVisible()
        ]
        self.outside.set_curves(curves, low, high)

    def _height_name(self, height: float) -> str:
        return number(10.0**height if self.log else height)

    # ------------------------------------------------------------ the rest

    def _place_label(self, name: str, line: pg.InfiniteLine) -> None:
        below = self._below[name] and self.log  # on a linear scale the border is just below
        line.label.anchors = [(1.0, 0.0 if below else 1.0)] * 2
        line.label.updatePosition()

    _smoothed = False

    def _shade(self) -> None:
        """Draw raw curves faintly while a running mean is drawn over them."""
        for each in self._spec.curves:
            color = self.color_of(each)
            if self._smoothed and self._colors is not None:
                color = faded(color, self._colors.base)
            self.curves[each.column].recolor(color)

    def _scale(self) -> None:
        for name, line in self.lines.items():
            self._place_label(name, line)
        self.left_axis.log = self.log
        self.left_axis.picture = None
        for curve in (*self.curves.values(), *self.smooth.values()):
            curve.log = self.log
        for name, line in self.lines.items():
            line.setPos(self.height_of(self._line_values[name]))
        low, high = (-1.0, 2.6) if self.log else (0.0, 10.0)
        self.view.setYRange(low, high, padding=0)

    def _put(self, curve: LiveCurve, series: Series, stretch: Stretch, pixels: int) -> Numbers:
        """Let a curve show a stretch of a series; give x where something is not finite."""
        end = min(stretch.end, len(series) - 1)
        if end < stretch.begin:
            curve.set_points(np.empty(0), np.empty(0))
            return np.empty(0)
        x_M, y_M, marks = series.picture(stretch.begin, end, pixels)
        curve.set_points(stretch.history.to_axis(x_M, stretch.axis), y_M)
        return stretch.history.to_axis(marks, stretch.axis)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave out the newest values where there is no room for them."""
        super().resizeEvent(event)
        for legend in self.legends.values():
            legend.show_values(self.width() >= _NARROW_PX)

    @Slot()
    def _on_x_moved(self) -> None:
        first, last = self.view.viewRange()[0]
        self.x_moved.emit(float(first), float(last))

    @Slot()
    def _on_y_moved(self) -> None:
        self.y_held = True
        self._mark_outside()

    @Slot(object, object)
    def _on_y_changed(self, _view: object, y_range: tuple[float, float]) -> None:
        self.side.setYRange(*y_range, padding=0)

    @Slot(bool)
    def _on_toggled(self, _shown: bool) -> None:
        for column, legend in self.legends.items():
            self.curves[column].setVisible(legend.shown)
        self.changed.emit()

    @Slot(bool)
    def _on_log(self, log: bool) -> None:
        self.log = log
        self.y_held = False
        self._scale()
        self.changed.emit()


def set_range(view: pg.ViewBox, axis: int, low: float, high: float) -> None:
    """Set one range unless it is in force already: the same range again would paint the axes again."""
    if view.viewRange()[axis] != [low, high]:
        (view.setXRange if axis == 0 else view.setYRange)(low, high, padding=0)


def faded(color: str, base: str) -> str:
    """Give a colour that stands back: two fifths of ``color`` over ``base``."""
    a, b = QColor(color), QColor(base)
    pairs = ((a.red(), b.red()), (a.green(), b.green()), (a.blue(), b.blue()))
    return "#{:02x}{:02x}{:02x}".format(*(round(0.4 * x + 0.6 * y) for x, y in pairs))
