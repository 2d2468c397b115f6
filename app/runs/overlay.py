"""Runs over each other: loss above pre-clip norm, or word error rates, with a legend that hides and shows runs."""

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

from app.monitor.legend import number
from app.monitor.x_range import FIRST_SPANS, XRange
from app.runs.overlay_plot import WER, OverlaidRun, OverlayPlot
from app.runs.run_colors import RunStyle, run_style
from app.runs.run_legend import RunLegend
from app.runs.run_table import percent
from app.theme import Colors
from core.analysis.history import Axis

_FIRST_SPAN = 10.0  # batches


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
        self.wer = OverlayPlot("Word error rate (dev), by epoch", WER, log=False, labelled=True)
        self.plots = (self.loss, self.norms, self.wer)
        self.wer.hide()
        for plot in (self.norms, self.wer):
            plot.view.setXLink(self.loss.view)
        self.axis: Axis = "step"
        """What x means."""
        self._decay = 0.0
        self.legend = RunLegend()
        self.legend.toggled.connect(self._on_toggled)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        for plot in self.plots:
            split.addWidget(plot)
            plot.view.x_moved.connect(self._on_x_moved)
            plot.view.fit_asked.connect(self.fit)
            plot.canvas.pointed.connect(self.point_at)
            plot.canvas.left.connect(self.point_nowhere)
            plot.canvas.sigDeviceRangeChanged.connect(self.refresh)
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

    def update_runs(self, runs: Sequence[OverlaidRun]) -> None:
        """Draw what the runs of the last ``set_runs`` have got since then."""
        self._runs = tuple(runs)
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
            newest = max(self._range_of(run).newest for run in self._runs if len(run.history))
            least = _FIRST_SPAN if self.axis == "step" else FIRST_SPANS[self.axis]
            span = max(least, newest * 1.02)
            self.loss.view.setXRange(-0.01 * span, span, padding=0)
        first, last = self.loss.view.viewRange()[0]
        for plot in self.plots:
            plot.draw(self._runs, first, last, self.axis, self._decay)
            if not plot.y_held:
                plot.view.setYRange(*plot.y_range(), padding=0)

    def set_axis(self, axis: Axis) -> None:
        """Count x in batches, epochs or seconds, and show all of it."""
        self.axis = axis
        for plot in self.plots:
            plot.set_axis(axis)
        self.point_nowhere()
        self.fit()

    def set_decay(self, decay: float) -> None:
        """Draw running means of this decay over the curves; 0 draws the curves alone."""
        self._decay = decay
        self.refresh()

    def set_log(self, log: bool) -> None:
        """Draw the loss on a logarithmic scale, or on a linear one."""
        self.loss.set_log(log)
        self.refresh()

    def show_wer(self, shown: bool) -> None:
        """Show word error rates in place of loss and norms."""
        self.wer.setVisible(shown)
        for plot in (self.loss, self.norms):
            plot.setVisible(not shown)
        self.point_nowhere()
        self.refresh()

    @Slot(float)
    def point_at(self, x: float) -> None:
        """Tell each run's values at the batch nearest to ``x``; runs that are shorter have none there."""
        shown = [plot for plot in self.plots if not plot.isHidden()]
        places = {run.key: self._position_at(run, x) for run in self._runs}
        found = {
            run.key: [plot.value_at(run, place) for plot in shown]
            for run in self._runs
            if (place := places[run.key]) is not None and self.legend.shown(run.key)
        }
        for number_of, plot in enumerate(shown):
            plot.crosshair.put(
                x,
                [
                    (plot.height_of(values[number_of]), self.style_of(key).color)
                    for key, values in found.items()
                ],
            )
        write = percent if self.wer in shown else number
        self.legend.show_values(
            {key: " · ".join(write(value) for value in values) for key, values in found.items()}
        )

    @Slot()
    def point_nowhere(self) -> None:
        """Take the crosshair and its values away."""
        for plot in self.plots:
            plot.crosshair.put(None)
        self.legend.show_values({})

    def _range_of(self, run: OverlaidRun) -> XRange:
        x = XRange(run.history)
        x.axis = self.axis
        return x

    def _position_at(self, run: OverlaidRun, x: float) -> int | None:
        """Position of the batch at ``x``, None outside the run."""
        place = self._range_of(run)
        slack = 0.5 if self.axis == "step" else 0.0
        if not len(run.history) or not -slack <= x <= place.newest + slack:
            return None
        return place.position_at(x)

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
            plot.smooth[key].setVisible(shown)
            plot.marks[key].setVisible(shown)

    @Slot(str, bool)
    def _on_toggled(self, key: str, shown: bool) -> None:
        self._set_visible(key, shown)
        self.refresh()

    @Slot()
    def _on_x_moved(self) -> None:
        self._x_held = True
        self.refresh()


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
