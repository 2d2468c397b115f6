"""The legend of a live plot: name, colour and newest value of each curve; a click hides or shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QWidget

FLAT_BUTTON = (
    "QToolButton { background: transparent; border: 1px solid transparent; border-radius: 4px;"
    " padding: 2px 4px; }"
    "QToolButton:hover { background: palette(midlight); }"
    "QToolButton:focus { border-color: palette(highlight); }"
)
"""Style of a button whose picture, not its relief, says whether it is on."""


@dataclass(frozen=True, slots=True)
class CurveSpec:
    """One curve of a plot."""

    column: str
    """A column of History, or ``clipped_share``."""
    name: str
    color: str
    """A field of Colors."""
    tip: str
    percent: bool = False


class Legend(QWidget):
    """Name, colour and newest value of a curve."""

    toggled = Signal(bool)
    """Whether the curve is shown now; sent when that changes."""

    def __init__(self, spec: CurveSpec) -> None:
        super().__init__()
        self._spec = spec
        self._button = QToolButton()
        self._button.setObjectName(f"legend.{spec.column}")
        self._button.setAccessibleName(f"Show {spec.name}")
        self._button.setText(spec.name)
        self._button.setToolTip(f"{spec.tip}\nClick to hide or show the curve")
        self._button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._button.setCheckable(True)
        self._button.setChecked(True)
        self._button.setStyleSheet(FLAT_BUTTON)
        self._button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._button.setIconSize(QSize(18, 12))
        self._button.toggled.connect(self._on_toggled)
        self._value = QLabel("–")
        self._value.setObjectName(f"newest.{spec.column}")
        self._value.setMinimumWidth(self._value.fontMetrics().horizontalAdvance("000.00"))
        self._value.setAccessibleName(f"Newest {spec.name}")
        self._value.setToolTip("Newest value")
        self._color = "#000000"
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._button)
        layout.addWidget(self._value)

    @property
    def shown(self) -> bool:
        """Whether the curve is to be seen."""
        return self._button.isChecked()

    def show_values(self, shown: bool) -> None:
        """Show the newest value beside the name, or only the name where room is short."""
        self._value.setVisible(shown)

    def recolor(self, color: str) -> None:
        """Draw the swatch in the colour of the curve."""
        self._color = color
        pixmap = QPixmap(QSize(36, 24))
        pixmap.setDevicePixelRatio(2.0)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        painter.setOpacity(1.0 if self.shown else 0.25)
        painter.setPen(QPen(QColor(color), 3))
        painter.drawLine(1, 6, 17, 6)
        painter.end()
        self._button.setIcon(QIcon(pixmap))

    def show_value(self, value: float | None) -> None:
        """Show the newest value; None for none."""
        text = (
            "–"
            if value is None
            else f"{100 * value:.0f} %"
            if self._spec.percent
            else number(value)
        )
        if text != self._value.text():
            self._value.setText(text)

    @Slot(bool)
    def _on_toggled(self, shown: bool) -> None:
        self.recolor(self._color)
        self._value.setEnabled(shown)
        self.toggled.emit(shown)


def number(value: float) -> str:
    """Write a loss or a norm in a few figures."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.2f}" if abs(value) < 10_000 else f"{value:.3g}"
