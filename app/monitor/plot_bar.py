"""The bar above the plots, and the keys that do the same while a plot has the focus."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QAction, QPalette
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QToolButton, QWidget

from app.icons import icon
from app.theme import Colors
from app.wheel import ComboBox
from core.analysis.history import Axis

PLOT_KEYS: tuple[tuple[str, str], ...] = (
    ("← →", "Crosshair to the batch before or after"),
    ("Shift+← →", "Ten batches on"),
    ("PgUp PgDown", "Pan"),
    ("+ -", "Zoom"),
    ("Home End", "First batch, newest batch"),
    ("F", "Fit whole run"),
    ("O", "Outliers in the range or at its border"),
    ("L N", "Loss or norms on a log scale"),
    ("X", "Batches, epochs or time"),
    ("S", "Smooth more, or not"),
    ("D", "Distribution beside the curves"),
    ("C", "Share of clipped batches"),
    ("Ctrl+C", "Copy the row under the crosshair"),
    ("Esc", "Hide the crosshair"),
)
"""Keys of a plot that has the focus, and what they do."""

AXES: tuple[tuple[Axis, str], ...] = (("step", "Batch"), ("epoch", "Epoch"), ("time", "Time"))
SMOOTHINGS: tuple[int, ...] = (0, 10, 30, 100, 300, 1000)
"""Batches that the running mean looks back over; 0 shows the curves as they are."""


SMOOTHING_TEXTS: tuple[str, ...] = ("Raw", *(f"Mean of {batches}" for batches in SMOOTHINGS[1:]))
SMOOTHING_TIP = "Running mean over so many batches, with the raw curve behind it"


def choices(name: str, title: str, entries: Sequence[str]) -> ComboBox:
    """Make a list that is as wide as its longest entry; ``title`` is what a screen reader says."""
    box = ComboBox()
    box.setObjectName(name)
    box.setAccessibleName(title)
    box.addItems(entries)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
    return box


def decay_of(batches: int) -> float:
    """Give the decay of the running mean whose weights add up to so many batches."""
    return 1.0 - 1.0 / batches if batches else 0.0


class PlotBar(QWidget):
    """Icons and two lists in one row.

    Args:
        follow: The window's action that follows the newest batch.
        fit: The window's action that shows the whole run.
    """

    axis_chosen = Signal(str)
    """An Axis."""
    smoothing_chosen = Signal(int)
    """One of SMOOTHINGS."""
    outliers_toggled = Signal(bool)
    distribution_toggled = Signal(bool)
    share_toggled = Signal(bool)

    def __init__(self, follow: QAction, fit: QAction) -> None:
        super().__init__()
        self.setObjectName("plot_bar")
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self._icons: list[tuple[QToolButton, str]] = []
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(8, 4, 6, 0)
        self._layout.setSpacing(2)
        for action in (follow, fit):
            button = self._button(f"button.{action.objectName()}")
            button.setDefaultAction(action)
        self.outliers = self._toggle(
            "outliers",
            "Outliers in the range (O)\nLet single far values stretch the y range; "
            "otherwise arrows at the border mark them",
            self.outliers_toggled,
        )
        self._layout.addSpacing(6)
        self.axis = self._list(
            "plot_axis", "x axis", "What the x axis counts (X)", [text for _, text in AXES]
        )
        self.axis.currentIndexChanged.connect(self._on_axis)
        self.smoothing = self._list(
            "plot_smoothing",
            "Smoothing",
            f"{SMOOTHING_TIP} (S)",
            SMOOTHING_TEXTS,
        )
        self.smoothing.currentIndexChanged.connect(self._on_smoothing)
        self._layout.addStretch(1)
        self.distribution = self._toggle(
            "distribution",
            "Distribution (D)\nHow often each height was met in the whole run",
            self.distribution_toggled,
        )
        self.share = self._toggle(
            "share",
            "Share of clipped batches (C)\nHow many of the newest batches were clipped, as a third plot",
            self.share_toggled,
        )
        self.distribution.setChecked(True)
        self.share.setChecked(True)

    def recolor(self, colors: Colors) -> None:
        """Draw the icons for another theme."""
        for button, name in self._icons:
            button.setIcon(icon(name, colors.text, colors.disabled))

    def cycle(self, box: QComboBox) -> None:
        """Choose the next entry of a list, after the last the first."""
        box.setCurrentIndex((box.currentIndex() + 1) % box.count())

    def _button(self, name: str) -> QToolButton:
        button = QToolButton()
        button.setObjectName(name)
        button.setAutoRaise(True)
        button.setIconSize(QSize(16, 16))
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._layout.addWidget(button)
        return button

    def _toggle(self, name: str, tip: str, signal: object) -> QToolButton:
        button = self._button(f"button.plot.{name}")
        button.setCheckable(True)
        button.setToolTip(tip)
        button.setAccessibleName(tip.split(" (")[0])
        button.toggled.connect(signal)
        self._icons.append((button, name))
        return button

    def _list(self, name: str, title: str, tip: str, entries: Sequence[str]) -> QComboBox:
        box = choices(name, title, entries)
        box.setToolTip(tip)
        self._layout.addWidget(box)
        return box

    @Slot(int)
    def _on_axis(self, index: int) -> None:
        self.axis_chosen.emit(AXES[index][0])

    @Slot(int)
    def _on_smoothing(self, index: int) -> None:
        self.smoothing_chosen.emit(SMOOTHINGS[index])
