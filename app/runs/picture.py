"""A view as a picture: PNG or SVG at any size, laid out anew for that size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMargins, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QImage, QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QApplication, QWidget

from core.errors import ExportError
from signscope.errors import RunFolderError
from signscope.folder import write_atomically

LARGEST = 16384
"""Most pixels along one side."""
_MARGIN = 12  # around the view, in pixels of the screen
_AROUND = QMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)


@dataclass(frozen=True, slots=True)
class PictureSource:
    """A view that can be saved as a picture.

    Args:
        view: The widget.
        redraw: Lets it draw anew for another size.
    """

    view: QWidget
    redraw: Callable[[], None]


def save_picture(
    view: QWidget,
    path: Path,
    size: QSize,
    scale: float = 1.0,
    redraw: Callable[[], None] = lambda: None,
    title: str = "",
) -> None:
    """Write what ``view`` shows to ``path``, as SVG where its name ends so, else as PNG.

    The view is laid out for the new size, drawn, and put back before anybody sees it, so curves have
    as many points as the picture has pixels. Widgets with the property ``control`` are left out. GUI thread only; takes a few hundred milliseconds.

    Args:
        view: The widget; it may be hidden.
        path: The file; replaced as a whole or not at all.
        size: Width and height of the picture in pixels.
        scale: Size of text and lines, 1.0 is that of the screen.
        redraw: Lets the view draw anew for its size, where it does not do so by itself.
        title: Stands above the view; nothing when empty.

    Raises:
        ExportError: The size is impossible, or the file cannot be written.
    """
    if not (0 < size.width() <= LARGEST and 0 < size.height() <= LARGEST):
        raise ExportError(
            "The picture cannot have this size",
            subject=f"{size.width()} x {size.height()}",
            hint=f"Choose sides between 1 and {LARGEST} pixels.",
        )
    before = view.size()
    frame = _Frame(view, title)
    layout_size = QSize(
        max(1, round(size.width() / scale) - 2 * _MARGIN),
        max(1, round(size.height() / scale) - 2 * _MARGIN - frame.title_height),
    )
    controls = [
        each
        for each in view.findChildren(QWidget)
        if each.property("control") and not each.isHidden()
    ]
    try:
        for each in controls:
            each.hide()
        _lay_out(view, layout_size)
        redraw()
        data = (
            _svg(frame, size, title or path.stem)
            if path.suffix.lower() == ".svg"
            else _png(frame, size, scale)
        )
    finally:
        for each in controls:
            each.show()
        _lay_out(view, before)
        redraw()
    try:
        write_atomically(path, data)
    except RunFolderError as error:
        raise ExportError(error.what, subject=error.subject, hint=error.hint) from error


def _lay_out(view: QWidget, size: QSize) -> None:
    view.resize(size)
    # Layouts and plots learn of their new size by posted events; only those are delivered here.
    for widget in [view, *view.findChildren(QWidget)]:
        layout = widget.layout()
        if layout is not None:
            layout.activate()
        QApplication.sendPostedEvents(widget)


def _png(frame: _Frame, size: QSize, scale: float) -> bytes:
    image = QImage(size, QImage.Format.Format_RGB32)
    if image.isNull():
        raise ExportError(
            "There is not enough memory for a picture of this size",
            subject=f"{size.width()} x {size.height()}",
            hint="Choose a smaller size, or SVG, which has none.",
        )
    painter = QPainter(image)
    painter.scale(scale, scale)
    frame.paint(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())


def _svg(frame: _Frame, size: QSize, title: str) -> bytes:
    data = QByteArray()
    buffer = QBuffer(data)
    generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)  # the older version cannot clip
    generator.setOutputDevice(buffer)
    generator.setSize(size)
    generator.setViewBox(frame.area)
    generator.setResolution(frame.dpi)  # else text is smaller than on the screen
    generator.setTitle(title)
    generator.setDescription("Made by SignScope")
    painter = QPainter(generator)
    frame.paint(painter)
    painter.end()
    return bytes(data.data())


class _Frame:
    """A view with air around it, and its title above."""

    def __init__(self, view: QWidget, title: str) -> None:
        self._view = view
        self._title = title
        self._font = QFont(view.font())
        self._font.setBold(True)
        self._font.setPointSizeF(1.3 * self._font.pointSizeF())
        self.title_height = round(1.6 * QFontMetrics(self._font).height()) if title else 0

    @property
    def area(self) -> QRect:
        """All of it, in pixels of the screen."""
        size = self._view.size().grownBy(_AROUND)
        return QRect(0, 0, size.width(), size.height() + self.title_height)

    @property
    def dpi(self) -> int:
        """Resolution that the view's text is laid out for."""
        return self._view.logicalDpiX()

    def paint(self, painter: QPainter) -> None:
        """Draw everything at the origin."""
        palette, role = self._view.palette(), self._view.backgroundRole()
        # Scaling rounds: the last row and column of pixels must not stay black.
        painter.fillRect(self.area.adjusted(0, 0, 1, 1), palette.color(role))
        if self._title:
            painter.setFont(self._font)
            painter.setPen(palette.color(self._view.foregroundRole()))
            line = QRect(_MARGIN, _MARGIN, self._view.width(), self.title_height)
            text = QFontMetrics(self._font).elidedText(
                self._title, Qt.TextElideMode.ElideMiddle, line.width()
            )
            painter.drawText(line, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft, text)
        self._view.render(painter, QPoint(_MARGIN, _MARGIN + self.title_height))
