"""Runs over each other, by step: loss above pre-clip norm, with a legend that hides and shows runs."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QLabel,
    QSplitter,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from app.runs.overlay_plot import OverlaidRun, OverlayPlot
from app.runs.run_colors import RunStyle, run_style
from app.runs.run_legend import RunLegend
from app.theme import Colors

_FIRST_SPAN = 10.0


class OverlayPlots(QWidget):
    """Loss and pre-clip norm of any number of runs over each other. GUI thread only.

    Call ``refresh`` when a history has grown. Dragging and the wheel hold the range until ``fit``.
    """

    def __init__(self, colors: Colors, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("overlay_plots")
        self._colors = colors
        self._runs: tuple[OverlaidRun, ...] = ()
        self._x_held = False
        self.loss = OverlayPlot("Loss", "loss", log=False, labelled=False)
        self.norms = OverlayPlot(
            "Gradient norm before clipping", "grad_norm_pre", log=True, labelled=True
        )
        self.plots = (self.loss, self.norms)
        self.norms.view.setXLink(self.loss.view)
        self.legend = RunLegend()
        self.legend.toggled.connect(self._on_toggled)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        for plot in self.plots:
            split.addWidget(plot)
            plot.view.x_moved.connect(self._on_x_moved)
            plot.view.fit_asked.connect(self.fit)
            plot.canvas.sigDeviceRangeChanged.connect(self.refresh)
        self.loss.view.y_moved.connect(self._on_loss_y_moved)
        self.norms.view.y_moved.connect(self._on_norms_y_moved)
        filled = QWidget()
        column = QVBoxLayout(filled)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(2)
        self.legend.setContentsMargins(6, 0, 6, 0)
        column.addWidget(self.legend)
        column.addWidget(split, 1)
        self._empty = _Empty()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(filled)
        self._stack.addWidget(self._empty)
        self._stack.setCurrentWidget(self._empty)
        self.recolor(colors)

    @property
    def runs(self) -> tuple[OverlaidRun, ...]:
        """The runs drawn, hidden ones too."""
        return self._runs

    def tell_empty(self, title: str, text: str) -> None:
        """Say what stands here while there is nothing to draw."""
        self._empty.tell(title, text)

    def set_runs(self, runs: Sequence[OverlaidRun]) -> None:
        """Overlay exactly these runs; ranges held by the person stay."""
        self._runs = tuple(runs)
        self._restyle()
        self.refresh()

    def style_of(self, key: str) -> RunStyle:
        """Give the colour and dash that a run is drawn with."""
        place = next(i for i, run in enumerate(self._runs) if run.key == key)
        return run_style(place, self._colors)

    def set_line(self, plot: str, value: float | None, label: str = "") -> None:
        """Draw, move or remove (None) a labelled line in the plot ``loss`` or ``norms``."""
        target = self.loss if plot == "loss" else self.norms
        target.set_line(value, label)
        target.recolor(self._colors)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        for plot in self.plots:
            plot.recolor(colors)
        self._empty.recolor(colors)
        self._restyle()

    @Slot()
    def fit(self) -> None:
        """Show every batch of every run."""
        self._x_held = False
        for plot in self.plots:
            plot.y_held = False
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Draw what the histories hold now."""
        some = any(len(run.history) for run in self._runs)
        self._stack.setCurrentIndex(0 if some else 1)
        if not some:
            return
        if not self._x_held:
            newest = max(
                int(run.history.column("step")[-1]) for run in self._runs if len(run.history)
            )
            span = max(_FIRST_SPAN, newest * 1.02)
            self.loss.view.setXRange(-0.01 * span, span, padding=0)
        first, last = self.loss.view.viewRange()[0]
        for plot in self.plots:
            plot.draw(self._runs, first, last)
            if not plot.y_held:
                plot.view.setYRange(*plot.y_range(), padding=0)

    def _restyle(self) -> None:
        styles = {run.key: run_style(i, self._colors) for i, run in enumerate(self._runs)}
        for plot in self.plots:
            plot.set_runs(styles)
        self.legend.set_runs({run.key: run.name for run in self._runs}, styles)
        for run in self._runs:
            self._set_visible(run.key, self.legend.shown(run.key))

    def _set_visible(self, key: str, shown: bool) -> None:
        for plot in self.plots:
            plot.curves[key].setVisible(shown)
            plot.marks[key].setVisible(shown)

    @Slot(str, bool)
    def _on_toggled(self, key: str, shown: bool) -> None:
        self._set_visible(key, shown)
        self.refresh()

    @Slot()
    def _on_x_moved(self) -> None:
        self._x_held = True
        self.refresh()

    @Slot()
    def _on_loss_y_moved(self) -> None:
        self.loss.y_held = True

    @Slot()
    def _on_norms_y_moved(self) -> None:
        self.norms.y_held = True


class _Empty(QWidget):
    """What stands in the place of the plots while there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.palette().ColorRole.Base)
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        self._text = QLabel()
        self._text.setProperty("role", "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(40, 30, 40, 30)
        layout.setSpacing(8)
        layout.addStretch(1)
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
            layout.addWidget(label)
        layout.addStretch(1)

    def tell(self, title: str, text: str) -> None:
        self._title.setText(title)
        self._text.setText(text)

    def recolor(self, colors: Colors) -> None:
        palette = self.palette()
        palette.setColor(palette.ColorRole.Base, QColor(colors.base))
        self.setPalette(palette)
