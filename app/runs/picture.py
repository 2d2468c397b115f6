"""A view as a picture: PNG or SVG at any size, laid out anew for that size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMargins, QPoint, QRect, QSize
from PySide6.QtGui import QColor, QImage, QPainter
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QApplication, QWidget

from core.errors import ExportError
from signscope.errors import RunFolderError
from signscope.folder import write_atomically

LARGEST = 16384
"""Most pixels along one side."""
_MARGIN = 12  # around the view, in pixels of the screen
_AROUND = QMargins(_MARGIN, _MARGIN, _MARGIN, _MARGIN)


def save_picture(
    view: QWidget,
    path: Path,
    size: QSize,
    scale: float = 1.0,
    redraw: Callable[[], None] = lambda: None,
) -> None:
    """Write what ``view`` shows to ``path``, as SVG where its name ends so, else as PNG.

    The view is laid out for the new size, drawn, and put back before anybody sees it, so curves have
    as many points as the picture has pixels. GUI thread only; takes a few hundred milliseconds.

    Args:
        view: The widget; it may be hidden.
        path: The file; replaced as a whole or not at all.
        size: Width and height of the picture in pixels.
        scale: Size of text and lines, 1.0 is that of the screen.
        redraw: Lets the view draw anew for its size, where it does not do so by itself.

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
    layout_size = QSize(
        max(1, round(size.width() / scale) - 2 * _MARGIN),
        max(1, round(size.height() / scale) - 2 * _MARGIN),
    )
    try:
        _lay_out(view, layout_size)
        redraw()
        data = (
            _svg(view, size, path.stem)
            if path.suffix.lower() == ".svg"
            else _png(view, size, scale)
        )
    finally:
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


def _png(view: QWidget, size: QSize, scale: float) -> bytes:
    image = QImage(size, QImage.Format.Format_RGB32)
    if image.isNull():
        raise ExportError(
            "There is not enough memory for a picture of this size",
            subject=f"{size.width()} x {size.height()}",
            hint="Choose a smaller size, or SVG, which has none.",
        )
    image.fill(_background(view))
    painter = QPainter(image)
    painter.scale(scale, scale)
    view.render(painter, QPoint(_MARGIN, _MARGIN))
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(buffer.data().data())


def _svg(view: QWidget, size: QSize, title: str) -> bytes:
    data = QByteArray()
    buffer = QBuffer(data)
    generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)  # the older version cannot clip
    generator.setOutputDevice(buffer)
    generator.setSize(size)
    whole = QRect(QPoint(0, 0), view.size().grownBy(_AROUND))
    generator.setViewBox(whole)
    generator.setResolution(view.logicalDpiX())  # else text is smaller than on the screen
    generator.setTitle(title)
    generator.setDescription("Made by SignScope")
    painter = QPainter(generator)
    painter.fillRect(whole, _background(view))
    view.render(painter, QPoint(_MARGIN, _MARGIN))
    painter.end()
    return bytes(data.data())


def _background(view: QWidget) -> QColor:
    return view.palette().color(view.backgroundRole())
