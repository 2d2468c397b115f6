"""What is marked in the plots beside the curves: epochs, events, values out of range, the crosshair.

Everything paints in pixels over the view and at most so much as can be told apart, however long the
run is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QPainter, QPen, QPolygonF

from app.monitor.live_curve import Numbers, ViewItem
from app.theme import Colors
from core.analysis.smoothing import LogHistogram
from signscope.records import EventKind, RunEventRecord

MARKED = (
    EventKind.RESUMED,
    EventKind.CHECKPOINT,
    EventKind.PAUSED,
    EventKind.ALERT,
    EventKind.ERROR,
)
"""Kinds of events that are marked; where two would overlap, the later in this row is drawn."""

_EVENT_PX = 5.0
_CELL_PX = 13.0
_ARROW_PX = 4.5
_LABEL_PX = 34.0
_STEADY = 200
"""A distribution is drawn anew when it grew by one in so many."""


class PixelItem(ViewItem):
    """An item that paints in pixels of the device instead of the units of the view."""

    def paint(self, painter: QPainter, *_: object) -> None:
        """Hand over to paint_pixels."""
        rect = self.viewRect()
        to_device = painter.transform()
        box = to_device.mapRect(rect)
        painter.save()
        painter.resetTransform()
        ratio = painter.device().devicePixelRatioF()
        self.paint_pixels(painter, box, _Places(to_device.m11(), to_device.dx()), ratio)
        painter.restore()

    def paint_pixels(self, painter: QPainter, box: QRectF, places: _Places, ratio: float) -> None:
        """Paint within ``box``, the view in device pixels of which ``ratio`` make one of Qt's."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Places:
    """Where x of the view is in device pixels."""

    scale: float
    offset: float

    def __call__(self, x_N: Numbers) -> Numbers:
        places: Numbers = np.asarray(x_N) * self.scale + self.offset
        return places


def _font(painter: QPainter, ratio: float) -> QFont:
    font = painter.font()
    font.setPixelSize(max(1, round(10 * ratio)))
    return font


class EpochLines(PixelItem):
    """A faint line where each epoch begins, with its number where there is room."""

    def __init__(self, *, labelled: bool) -> None:
        super().__init__()
        self.setZValue(-9)
        self._labelled = labelled
        self._brush = QBrush()
        self._text = QColor()
        self.x_N: Numbers = np.empty(0)
        self.epochs_N: Numbers = np.empty(0, np.int64)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._brush = QBrush(QColor(colors.border))
        self._text = QColor(colors.muted)
        self.update()

    def set_epochs(self, x_N: Numbers, epochs_N: Numbers) -> None:
        """Draw lines at ``x_N``, where the epochs of these numbers begin."""
        self.x_N, self.epochs_N = x_N, epochs_N
        self.update()

    def paint_pixels(self, painter: QPainter, box: QRectF, places: _Places, ratio: float) -> None:
        """Draw lines, then numbers at the top."""
        columns = np.rint(places(self.x_N))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._brush)
        painter.drawRects(
            [
                QRectF(x, box.top(), 1.0, box.height())
                for x in columns.tolist()
                if x > box.left() + 1
            ]
        )
        if not self._labelled:
            return
        painter.setFont(_font(painter, ratio))
        painter.setPen(self._text)
        taken = -math.inf
        for x, epoch in zip(columns.tolist(), self.epochs_N.tolist(), strict=True):
            if x - taken >= _LABEL_PX * ratio and box.left() - 2 <= x <= box.right() - 16 * ratio:
                painter.drawText(QPointF(x + 3 * ratio, box.top() + 11 * ratio), str(epoch))
                taken = x


class EventMarks(PixelItem):
    """Small signs at the bottom of a plot for checkpoints, pauses, alerts and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.setZValue(5)
        self._colors: dict[EventKind, QColor] = {}
        self._back = QColor()
        self._x_N: Numbers = np.empty(0)
        self._events: Sequence[RunEventRecord] = ()

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = {
            EventKind.RESUMED: QColor(colors.accent),
            EventKind.CHECKPOINT: QColor(colors.success),
            EventKind.PAUSED: QColor(colors.muted),
            EventKind.ALERT: QColor(colors.warning),
            EventKind.ERROR: QColor(colors.error),
        }
        self._back = QColor(colors.base)
        self.update()

    def set_events(self, x_N: Numbers, events: Sequence[RunEventRecord]) -> None:
        """Mark ``events``, of the kinds MARKED, at these x."""
        if len(x_N) or len(self._x_N):
            self._x_N, self._events = x_N, events
            self.update()

    @property
    def x_N(self) -> Numbers:
        """Where the events are."""
        return self._x_N

    @property
    def events(self) -> Sequence[RunEventRecord]:
        """The events marked."""
        return self._events

    def near(self, x: float, reach: float) -> list[RunEventRecord]:
        """Give the events at most ``reach`` from ``x``."""
        return [self._events[i] for i in np.flatnonzero(abs(self._x_N - x) <= reach).tolist()]

    def paint_pixels(self, painter: QPainter, box: QRectF, places: _Places, ratio: float) -> None:
        """Draw one sign for each cell of pixels: the gravest of its events."""
        chosen: dict[int, tuple[int, float, EventKind]] = {}
        columns = places(self._x_N)
        for x, event in zip(columns.tolist(), self._events, strict=True):
            cell = math.floor(x / (_CELL_PX * ratio))
            rank = MARKED.index(event.kind)
            if cell not in chosen or rank >= chosen[cell][0]:
                chosen[cell] = (rank, x, event.kind)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        size = _EVENT_PX * ratio
        y = box.bottom() - size - 3 * ratio
        for _rank, x, kind in chosen.values():
            if box.left() - size <= x <= box.right() + size:
                self._draw(painter, QPointF(x, y), size, kind)

    def _draw(self, painter: QPainter, at: QPointF, size: float, kind: EventKind) -> None:
        color = self._colors[kind]
        painter.setPen(QPen(self._back, size / 5))  # a rim keeps it apart from curves
        painter.setBrush(QBrush(color))
        x, y = at.x(), at.y()
        if kind is EventKind.CHECKPOINT:
            painter.drawRect(QRectF(x - 0.8 * size, y - 0.8 * size, 1.6 * size, 1.6 * size))
        elif kind is EventKind.PAUSED:
            painter.drawRect(QRectF(x - 0.85 * size, y - size, 0.7 * size, 2 * size))
            painter.drawRect(QRectF(x + 0.15 * size, y - size, 0.7 * size, 2 * size))
        elif kind is EventKind.RESUMED:
            corners = ((-0.7, -1.0), (1.0, 0.0), (-0.7, 1.0))
            painter.drawPolygon([QPointF(x + a * size, y + b * size) for a, b in corners])
        elif kind is EventKind.ALERT:
            corners = ((0.0, -1.15), (1.15, 0.95), (-1.15, 0.95))
            painter.drawPolygon([QPointF(x + a * size, y + b * size) for a, b in corners])
        else:
            painter.drawEllipse(at, 1.05 * size, 1.05 * size)
            painter.setPen(QPen(self._back, size / 3))
            for sign in (-0.45, 0.45):
                painter.drawLine(
                    QPointF(x - 0.45 * size, y + sign * size),
                    QPointF(x + 0.45 * size, y - sign * size),
                )


class OutsideMarks(PixelItem):
    """Arrows at the border for points above or below the range, and how far the furthest goes."""

    def __init__(self, name: Callable[[float], str]) -> None:
        super().__init__()
        self.setZValue(6)
        self._name = name
        self._back = QColor()
        self._sides: dict[bool, list[tuple[Numbers, Numbers, QColor]]] = {True: [], False: []}

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._back = QColor(colors.base)
        self.update()

    def set_curves(
        self, curves: Sequence[tuple[Numbers, Numbers, str]], low: float, high: float
    ) -> None:
        """Mark what of the curves (x, heights, colour) is not between ``low`` and ``high``."""
        before = self.above, self.below
        self._sides = {True: [], False: []}
        for x_N, heights_N, color in curves:
            if not len(heights_N):
                continue
            for up in (True, False):
                out_N = heights_N > high if up else heights_N < low
                if out_N.any():
                    self._sides[up].append((x_N[out_N], heights_N[out_N], QColor(color)))
        if any((*before, self.above, self.below)):
            self.update()

    @property
    def above(self) -> int:
        """How many drawn points are above the range."""
        return sum(len(x_N) for x_N, _, _ in self._sides[True])

    @property
    def below(self) -> int:
        """How many drawn points are below the range."""
        return sum(len(x_N) for x_N, _, _ in self._sides[False])

    def paint_pixels(self, painter: QPainter, box: QRectF, places: _Places, ratio: float) -> None:
        """Draw at most one arrow for each cell of pixels and side."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for up, curves in self._sides.items():
            furthest: tuple[float, float, QColor] | None = None
            for x_N, heights_N, color in curves:
                columns = places(x_N)
                cells = np.unique(np.floor(columns / (2 * _ARROW_PX * ratio)), return_index=True)[1]
                for x in columns[cells].tolist():
                    self._draw(painter, x, box, up, color, ratio)
                place = int(heights_N.argmax() if up else heights_N.argmin())
                height = float(heights_N[place])
                if furthest is None or (height > furthest[1]) == up:
                    furthest = (float(columns[place]), height, color)
            if furthest is not None:
                self._tell(painter, box, up, furthest, ratio)

    def _draw(
        self, painter: QPainter, x: float, box: QRectF, up: bool, color: QColor, ratio: float
    ) -> None:
        size = _ARROW_PX * ratio
        tip = box.top() + 1.5 * ratio if up else box.bottom() - 1.5 * ratio
        foot = tip + (1 if up else -1) * 1.5 * size
        painter.setPen(QPen(self._back, ratio))
        painter.setBrush(QBrush(color))
        painter.drawPolygon(
            QPolygonF([QPointF(x - size, foot), QPointF(x + size, foot), QPointF(x, tip)])
        )

    def _tell(
        self,
        painter: QPainter,
        box: QRectF,
        up: bool,
        furthest: tuple[float, float, QColor],
        ratio: float,
    ) -> None:
        x, height, color = furthest
        text = self._name(height)
        painter.setFont(_font(painter, ratio))
        width = painter.fontMetrics().horizontalAdvance(text)
        left = x + 8 * ratio if x + 10 * ratio + width < box.right() else x - 8 * ratio - width
        y = box.top() + 11 * ratio if up else box.bottom() - 4 * ratio
        back = QColor(self._back)
        back.setAlphaF(0.85)
        painter.fillRect(
            QRectF(left - 2 * ratio, y - 10 * ratio, width + 4 * ratio, 13 * ratio), back
        )
        painter.setPen(color)
        painter.drawText(QPointF(left, y), text)


class CrosshairLine(PixelItem):
    """The vertical line through one batch, and a dot on each curve there."""

    _REACH_PX = 6.0

    def __init__(self) -> None:
        super().__init__()
        self.setZValue(8)
        self._pen = QPen()
        self._back = QColor()
        self._x: float | None = None
        self._dots: Sequence[tuple[float, str]] = ()

    @property
    def x(self) -> float | None:
        """Where it stands, None when it is hidden."""
        return self._x

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._pen = QPen(QColor(colors.text), 1.0)
        self._back = QColor(colors.base)
        self.update()

    def put(self, x: float | None, dots: Sequence[tuple[float, str]] = ()) -> None:
        """Stand at ``x`` with dots at these (height, colour); None hides it."""
        for place in (self._x, x):  # only the stripes that change are painted anew
            if place is not None:
                self.update(self._stripe(place))
        self._x, self._dots = x, dots

    def _stripe(self, x: float) -> QRectF:
        rect = self.viewRect()
        pixel = self.pixelVectors()[0]
        reach = self._REACH_PX * (pixel.x() if pixel is not None else 1.0)
        return QRectF(x - reach, rect.top(), 2 * reach, rect.height())

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw the line and the dots."""
        if self._x is None:
            return
        to_device = painter.transform()
        rect = self.viewRect()
        top = to_device.map(QPointF(self._x, rect.bottom()))
        bottom = to_device.map(QPointF(self._x, rect.top()))
        dots = [
            (to_device.map(QPointF(self._x, height)), color)
            for height, color in self._dots
            if math.isfinite(height) and rect.top() <= height <= rect.bottom()
        ]
        ratio = painter.device().devicePixelRatioF()
        painter.save()
        painter.resetTransform()
        x = round(top.x()) + 0.5
        painter.setPen(self._pen)
        painter.setOpacity(0.65)
        painter.drawLine(QPointF(x, top.y()), QPointF(x, bottom.y()))
        painter.setOpacity(1.0)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for at, color in dots:
            painter.setPen(QPen(self._back, 1.5 * ratio))
            painter.setBrush(QBrush(QColor(color)))
            painter.drawEllipse(QPointF(x, at.y()), 4 * ratio, 4 * ratio)
        painter.restore()


class Distribution(ViewItem):
    """A histogram on its side: how often each height was met, against the axis of the curve."""

    def __init__(self) -> None:
        super().__init__()
        self._brush = QBrush()
        self._bars: list[QRectF] = []
        self._shown: tuple[bool | None, int] = (None, 0)

    @property
    def bars(self) -> list[QRectF]:
        """The bars in view units: x from 0 to their share of the longest, y the heights of their bin."""
        return self._bars

    def recolor(self, color: str) -> None:
        """Take the colour of another theme."""
        fill = QColor(color)
        fill.setAlphaF(0.55)
        self._brush = QBrush(fill)
        self.update()

    def set_histogram(self, histogram: LogHistogram, *, log: bool) -> None:
        """Show a distribution; on a linear axis bars are as long as their bins are dense."""
        total = histogram.total
        same, before = self._shown
        if same is log and 0 <= total - before <= total // _STEADY:
            return  # no bar would become a pixel longer
        self._shown = (log, total)
        some = np.flatnonzero(histogram.counts)
        edges = np.log10(histogram.edges) if log else histogram.edges
        low, high = edges[:-1][some], edges[1:][some]
        length = histogram.counts[some] / (high - low)
        length = length / length.max() if len(some) else length
        self._bars = [
            QRectF(0.0, bottom, share, top - bottom)
            for bottom, top, share in zip(low.tolist(), high.tolist(), length.tolist(), strict=True)
        ]
        self.update()

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw the bars, each at least a pixel long and high."""
        width, height = self.pixelVectors()
        if width is None or height is None:
            return
        thin, flat = width.length(), height.length()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._brush)
        painter.drawRects(
            [
                QRectF(0.0, bar.y(), max(bar.width(), 2 * thin), max(bar.height() - flat, flat))
                for bar in self._bars
            ]
        )


def dashed(color: str) -> QPen:
    """Give the pen of a limit line."""
    pen: QPen = pg.mkPen(color, width=1, style=Qt.PenStyle.DashLine)
    return pen
