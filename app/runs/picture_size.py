"""The size of a picture: its pixels, and how large text and lines are in it."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

from app.runs.picture import LARGEST
from app.wheel import DoubleSpinBox, SpinBox


class PictureSize(QWidget):
    """One row of fields. GUI thread only."""

    def __init__(self) -> None:
        super().__init__()
        self._width, self._height = SpinBox(), SpinBox()
        for box, name, value in (
            (self._width, "Width of the picture", 1600),
            (self._height, "Height of the picture", 1000),
        ):
            box.setObjectName(name.split()[0].lower())
            box.setAccessibleName(name)
            box.setRange(200, LARGEST)
            box.setSingleStep(100)
            box.setValue(value)
        self._height.setSuffix(" pixels")
        self._scale = DoubleSpinBox()
        self._scale.setObjectName("scale")
        self._scale.setAccessibleName("Size of text and lines")
        self._scale.setRange(0.5, 8.0)
        self._scale.setSingleStep(0.25)
        self._scale.setValue(1.25)
        self._scale.setPrefix("× ")
        self._scale.setToolTip("× 1 is the size of text and lines on the screen")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(QLabel("Size"))
        row.addWidget(self._width)
        row.addWidget(QLabel("×"))
        row.addWidget(self._height)
        row.addSpacing(16)
        row.addWidget(QLabel("Text and lines"))
        row.addWidget(self._scale)
        row.addStretch(1)

    @property
    def pixels(self) -> QSize:
        """Width and height of the picture."""
        return QSize(self._width.value(), self._height.value())

    @property
    def scale(self) -> float:
        """Size of text and lines; 1.0 is that of the screen."""
        return self._scale.value()
