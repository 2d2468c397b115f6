"""What of overlaid runs is drawn, and how: curves, x axis, smoothing, scale."""

from __future__ import annotations

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QWidget

from app.monitor.plot_bar import (
    AXES,
    SMOOTHING_TEXTS,
    SMOOTHING_TIP,
    SMOOTHINGS,
    choices,
    decay_of,
)
from app.runs.overlay import OverlayPlots


class CurveBar(QWidget):
    """One row of choices for ``plots``. GUI thread only."""

    def __init__(self, plots: OverlayPlots) -> None:
        super().__init__()
        self._plots = plots
        self.curves = choices("compared_curves", "Curves", ["Loss and norm", "WER by epoch"])
        self.axis = choices("compared_axis", "x axis", [text for _, text in AXES])
        self.smoothing = choices("compared_smoothing", "Smoothing", SMOOTHING_TEXTS)
        self.smoothing.setToolTip(SMOOTHING_TIP)
        self.log = QCheckBox("Lo&g scale of the loss")
        self.log.setObjectName("compared_log")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        for text, box in (
            ("Cur&ves", self.curves),
            ("&x axis", self.axis),
            ("S&moothing", self.smoothing),
        ):
            label = QLabel(text)
            label.setBuddy(box)
            row.addWidget(label)
            row.addWidget(box)
            row.addSpacing(10)
        row.addWidget(self.log)
        row.addStretch(1)
        self.curves.currentIndexChanged.connect(self._on_curves)
        self.axis.currentIndexChanged.connect(self._on_axis)
        self.smoothing.currentIndexChanged.connect(self._on_smoothing)
        self.log.toggled.connect(plots.set_log)

    @Slot(int)
    def _on_curves(self, place: int) -> None:
        self._plots.show_wer(place == 1)
        for each in (self.smoothing, self.log):  # neither says anything of a rate an epoch
            each.setEnabled(place == 0)

    @Slot(int)
    def _on_axis(self, place: int) -> None:
        self._plots.set_axis(AXES[place][0])

    @Slot(int)
    def _on_smoothing(self, place: int) -> None:
        self._plots.set_decay(decay_of(SMOOTHINGS[place]))
