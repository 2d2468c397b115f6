"""Items of a live plot: a curve that never holds more than the screen can show, marks, quiet grid lines.

pyqtgraph's own curve keeps all points and thins them by rules that lose spikes and the newest samples;
here the history's min/max pyramid answers how a range looks, and only that is painted. Painting is one
polyline with a cosmetic pen of width 1: wider pens take Qt's slow path.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QBrush, QColor, QPainter, QPen, QPolygonF

Numbers = npt.NDArray[np.number]

_TINY = 1e-6
"""Norms below this are drawn here on a log axis: there is no logarithm of 0."""
_LEAST_STRETCH_PX = 4.0
"""Shorter drags with Shift held are slips of the hand."""


def log_height(values: Numbers | float) -> Numbers:
    """Give the height of ``values`` on a log axis."""
    return np.log10(np.maximum(values, _TINY))


class ViewItem(pg.GraphicsObject):  # type: ignore[misc]
    """An item that covers the whole view, whatever range it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.setFlag(self.GraphicsItemFlag.ItemUsesExtendedStyleOption, False)

    def boundingRect(self) -> QRectF:
        """Give the range of the view."""
        rect = self.viewRect()
        return rect if rect is not None else QRectF()

    def viewTransformChanged(self) -> None:
        """Cover the new range."""
        self.prepareGeometryChange()
        super().viewTransformChanged()


class LiveCurve(ViewItem):
    """One curve of at most two points a pixel.

    Args:
        color: As ``#rrggbb``.
        log: Draw the logarithm of the values.
    """

    def __init__(self, color: str, *, log: bool = False) -> None:
        super().__init__()
        self.log = log
        """Whether heights are logarithms; takes effect with the next points."""
        self._polygon = QPolygonF()
        self._pen = QPen()
        self.points = 0
        """Points painted now."""
        self.x_N: Numbers = np.empty(0)
        self.heights_N: Numbers = np.empty(0)
        """Where the points are in the view."""
        self.lowest, self.highest = np.nan, np.nan
        self.recolor(color)

    def recolor(self, color: str) -> None:
        """Take the colour of another theme."""
        self._pen = pg.mkPen(color, width=1)
        self.update()

    def set_points(self, x_N: Numbers, y_N: Numbers) -> None:
        """Show an envelope: x and y arrays (N,), x rising. Values that are not finite are left out."""
        finite_N = np.isfinite(y_N)
        if not finite_N.all():
            x_N, y_N = x_N[finite_N], y_N[finite_N]
        if self.log:
            y_N = log_height(y_N)
        self.points = len(y_N)
        self.x_N, self.heights_N = x_N, y_N
        self.lowest, self.highest = (y_N.min(), y_N.max()) if len(y_N) else (np.nan, np.nan)
        # The polygon of no points has no memory to write to.
        self._polygon = pg.functions.arrayToQPolygonF(x_N, y_N) if len(y_N) else QPolygonF()
        self.update()

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw the curve; a single point is drawn as a short dash so that the first batch shows."""
        painter.setPen(self._pen)
        if self._polygon.size() == 1:
            width = self.pixelVectors()[0]
            step = QPointF(3 * width.x(), 0) if width is not None else QPointF()
            painter.drawLine(self._polygon.at(0) - step, self._polygon.at(0) + step)
        else:
            painter.drawPolyline(self._polygon)


class NonFiniteMarks(ViewItem):
    """A triangle at the top of the plot for each batch whose value is not a number or infinite."""

    SIZE_PX = 5.0

    def __init__(self, color: str) -> None:
        super().__init__()
        self._x_N: Numbers = np.empty(0)
        self._brush = QBrush()
        self.recolor(color)

    def recolor(self, color: str) -> None:
        """Take the colour of another theme."""
        self._brush = QBrush(QColor(color))
        self.update()

    def set_positions(self, x_N: Numbers) -> None:
        """Mark these x positions, in any order."""
        if len(x_N) or len(self._x_N):
            self._x_N = x_N
            self.update()

    @property
    def positions(self) -> Numbers:
        """The x that are marked."""
        return self._x_N

    @property
    def count(self) -> int:
        """How many batches are marked in the range shown."""
        return len(self._x_N)

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw at most one triangle for each column of pixels."""
        if not len(self._x_N):
            return
        to_device = painter.transform()
        top = self.viewRect().bottom()  # y grows upwards in the view
        place = to_device.map(QPointF(0.0, top))
        columns = np.unique(np.rint(self._x_N * to_device.m11() + to_device.dx()))
        painter.save()
        painter.resetTransform()
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._brush)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        size = self.SIZE_PX * painter.device().devicePixelRatioF()
        y = place.y() + 1
        for x in columns.tolist():
            painter.drawPolygon(
                QPolygonF([QPointF(x - size, y), QPointF(x + size, y), QPointF(x, y + 1.7 * size)])
            )
        painter.restore()


class QuietGrid(ViewItem):
    """Faint horizontal lines at the labelled ticks of an axis. pyqtgraph's own grid costs tens of ms."""

    def __init__(self, axis: pg.AxisItem, color: str) -> None:
        super().__init__()
        self.setZValue(-10)
        self._axis = axis
        self._pen = QPen()
        self.recolor(color)

    def recolor(self, color: str) -> None:
        """Take the colour of another theme."""
        self._pen = pg.mkPen(color, width=1)
        self.update()

    def paint(self, painter: QPainter, *_: object) -> None:
        """Draw one line for each labelled tick in sight."""
        rect = self.viewRect()
        levels = self._axis.tickValues(rect.top(), rect.bottom(), self._axis.height())
        if not levels:
            return
        painter.setPen(self._pen)
        painter.drawLines(
            [QLineF(rect.left(), value, rect.right(), value) for value in levels[0][1]]
        )


class DecadeAxis(pg.AxisItem):  # type: ignore[misc]
    """A log axis labelled 0.1, 1, 10, 100 instead of powers; positions are logarithms."""

    def tickValues(
        self, lowest: float, highest: float, _size: float
    ) -> list[tuple[float, list[float]]]:
        """Give whole decades, and unlabelled ticks between them."""
        first, last = int(np.floor(lowest)), int(np.ceil(highest))
        decades = [float(d) for d in range(first, last + 1) if lowest <= d <= highest]
        between = [
            d + float(np.log10(factor))
            for d in range(first, last + 1)
            for factor in range(2, 10)
            if lowest <= d + np.log10(factor) <= highest
        ]
        return [(1.0, decades), (0.1, between)]

    def tickStrings(self, values: list[float], _scale: float, spacing: float) -> list[str]:
        """Label the decades only."""
        if spacing < 1.0:
            return [""] * len(values)
        return [f"{10.0**value:g}" for value in values]


class BatchAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis of whole batch numbers."""

    def tickStrings(self, values: list[float], _scale: float, _spacing: float) -> list[str]:
        """Label whole numbers, thousands apart by a thin space."""
        return [
            f"{value:,.0f}".replace(",", "\u2009") if value == int(value) else ""
            for value in values
        ]


class TimeView(pg.ViewBox):  # type: ignore[misc]
    """A view whose ranges are set by the monitor and by the person, never by pyqtgraph's auto-range.

    The wheel and dragging move x; over the left axis they move y. Dragging with Shift held chooses the
    stretch of x to zoom to.
    """

    x_moved = Signal()
    """The person changed the x range."""
    y_moved = Signal()
    """The person changed the y range."""
    fit_asked = Signal()
    """The person double clicked."""
    clicked = Signal(float)
    """The person clicked at this x."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False)
        self.disableAutoRange()
        self.setDefaultPadding(0.0)

    def wheelEvent(self, event: object, axis: int | None = None) -> None:
        """Zoom x, or y when the wheel turns over the left axis."""
        axis = 0 if axis is None else axis
        super().wheelEvent(event, axis=axis)
        (self.x_moved if axis == 0 else self.y_moved).emit()

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Pan x with the left button and zoom it with the right; y over the left axis."""
        if axis is None and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._choose_stretch(event)
            return
        axis = 0 if axis is None else axis
        super().mouseDragEvent(event, axis=axis)
        (self.x_moved if axis == 0 else self.y_moved).emit()

    def mouseClickEvent(self, event: Any) -> None:
        """Tell where the left button was clicked."""
        if event.button() == Qt.MouseButton.LeftButton and not event.double():
            event.accept()
            self.clicked.emit(self.mapToView(event.pos()).x())

    def mouseDoubleClickEvent(self, event: object) -> None:
        """Ask for the whole run."""
        self.fit_asked.emit()

    def _choose_stretch(self, event: Any) -> None:
        event.accept()
        left, right = sorted((event.buttonDownPos().x(), event.pos().x()))
        if not event.isFinish():
            self.updateScaleBox(QPointF(left, 0.0), QPointF(right, self.height()))
            return
        self.rbScaleBox.hide()
        first, last = (self.mapToView(QPointF(x, 0.0)).x() for x in (left, right))
        if right - left > _LEAST_STRETCH_PX:
            self.setXRange(first, last, padding=0)
            self.x_moved.emit()
