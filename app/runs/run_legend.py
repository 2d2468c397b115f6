"""The legend of overlaid runs: name and line of each, to hide and show it."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QSizePolicy, QToolButton, QWidget

from app.runs.flow_layout import FlowLayout
from app.runs.run_colors import RunStyle

SWATCH_SIZE = QSize(30, 12)
"""A swatch in pixels; its line ends a little before the text beside it."""

_LEGEND_STYLE = (
    "QToolButton { background: transparent; border: 1px solid transparent; border-radius: 4px;"
    " padding: 2px 4px; }"
    "QToolButton:hover { background: palette(midlight); }"
    "QToolButton:focus { border-color: palette(highlight); }"
)
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
