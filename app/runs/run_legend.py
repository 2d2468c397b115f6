"""The legend of overlaid runs: name and line of each, to hide and show it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from app.monitor.legend import FLAT_BUTTON
from app.runs.flow_layout import FlowLayout
from app.runs.run_colors import RunStyle

SWATCH_SIZE = QSize(30, 12)
"""A swatch in pixels; its line ends a little before the text beside it."""

_WIDEST_VALUE = "0000.00 · 00000.00"
_NAME_WIDTH = 220  # pixels of a run's name in the legend; the tooltip has all of it


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


class RunLegend(QWidget):
    """Name and line of every run; a click, or space, hides or shows it."""

    toggled = Signal(str, bool)
    """Key of a run, and whether it is shown now."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("run_legend")
        self._buttons: dict[str, QToolButton] = {}
        self._entries: dict[str, QWidget] = {}
        self._values: dict[str, QLabel] = {}
        self._styles: dict[str, RunStyle] = {}
        self._layout = FlowLayout(self, spacing=6)
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def set_runs(self, names: dict[str, str], styles: dict[str, RunStyle]) -> None:
        """List exactly these runs; those hidden before stay hidden."""
        for key in [key for key in self._buttons if key not in names]:
            button = self._buttons.pop(key)
            entry = self._entries.pop(key)
            self._layout.removeWidget(entry)
            entry.deleteLater()
            del self._values[key]
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

    def show_values(self, values: dict[str, str]) -> None:
        """Show beside each run what it has where the person points; nothing for runs not named."""
        for key, label in self._values.items():
            text = values.get(key, "")
            if text != label.text():
                label.setText(text)
                label.setAccessibleName(f"{self._buttons[key].text()}: {text}" if text else "")

    def value(self, key: str) -> str:
        """Give what is shown beside a run."""
        return self._values[key].text()

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
        button.setStyleSheet(FLAT_BUTTON)
        button.toggled.connect(self._on_toggled)
        value = QLabel()
        value.setObjectName(f"value.{key}")
        # Room for what is pointed at is kept free: nothing moves when it comes and goes.
        value.setFixedWidth(value.fontMetrics().horizontalAdvance(_WIDEST_VALUE))
        entry = QWidget()
        row = QHBoxLayout(entry)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(button)
        row.addWidget(value)
        self._entries[key] = entry
        self._buttons[key] = button
        self._values[key] = value
        self._layout.addWidget(entry)
        return button

    @Slot(bool)
    def _on_toggled(self, shown: bool) -> None:
        button = self.sender()
        assert isinstance(button, QToolButton)
        key = str(button.property("run"))
        button.setIcon(swatch(self._styles[key], shown=shown))
        self.toggled.emit(key, shown)
