"""The picture of the camera preview, or what training sees of it."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QWidget

from app.camera.overlay import (
    LEFT_COLOR,
    RIGHT_COLOR,
    ViewColors,
    blank,
    draw_picture,
    draw_training_view,
)
from app.camera.preview_thread import PreviewFrame


class PictureView(QWidget):
    """Paints the newest frame, or what training sees of it. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("camera_picture")
        self.setAccessibleName("Camera picture")
        self.setMinimumSize(200, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.frame: PreviewFrame | None = None
        self.mirrored = True
        self.as_training = False

    def show_frame(self, frame: PreviewFrame) -> None:
        """Draw this frame from now on."""
        self.frame = frame
        self.update()

    def picture(self) -> QImage:
        """Give what is shown as an RGB32 image of the view's size in device pixels."""
        ratio = self.devicePixelRatioF()
        area = QRectF(self.rect())
        frame = self.frame
        training = self.as_training and frame is not None and frame.training_view is not None
        colors = self._colors()
        image = blank(
            self.width(), self.height(), ratio, colors.background if training else QColor("#0b0d10")
        )
        if frame is None:
            return image
        painter = QPainter(image)
        if self.as_training and frame.training_view is not None:
            draw_training_view(painter, area, frame.training_view, colors)
        else:
            draw_picture(painter, area, frame, mirrored=self.mirrored)
        painter.end()
        return image

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the picture."""
        painter = QPainter(self)
        painter.drawImage(0, 0, self.picture())
        painter.end()

    def _colors(self) -> ViewColors:
        palette = self.palette()
        background = palette.color(QPalette.ColorRole.Base)
        dark = background.lightness() < 128
        return ViewColors(
            background=background,
            text=palette.color(QPalette.ColorRole.Text),
            muted=palette.color(QPalette.ColorRole.PlaceholderText),
            faint=palette.color(QPalette.ColorRole.Mid),
            left=QColor(LEFT_COLOR if dark else "#b85400"),
            right=QColor(RIGHT_COLOR if dark else "#0072b2"),
        )
