"""The live plots: loss, gradient norms and the share of clipped batches over one x axis."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import (
    QAction,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QResizeEvent,
)
from PySide6.QtWidgets import QSplitter, QStackedLayout, QVBoxLayout, QWidget

from app.monitor.batch_row import BatchRow
from app.monitor.crosshair import Crosshair
from app.monitor.empty_plots import EmptyPlots
from app.monitor.live_plot import LivePlot, Stretch, set_range
from app.monitor.pacing import Pacer
from app.monitor.plot_bar import AXES, SMOOTHINGS, PlotBar, decay_of
from app.monitor.plot_specs import LOSS, NORMS, SHARE
from app.monitor.run_marks import RunMarks
from app.monitor.x_range import XRange
from app.theme import Colors
from core.analysis.history import Axis, History
from signscope.folder import RunFolder
from signscope.records import LARGE_GRAD_NORM, RunEventRecord, StepRecord

_BATCHES_BEFORE, _BATCHES_AFTER = 20, 80
"""Neighbours of a batch that was asked for."""
_EPOCH_LINES_PX = 24.0
_ZOOM = 1.5
_PAN = 0.8
_BIG_STEP = 10
_TALL_PX = 480
_SHARES = (38, 40, 22)
"""How the height is divided among the plots at first."""


class MonitorView(QWidget):
    """Loss and gradient norms of the run shown, following the newest batch until one pans back.

    GUI thread only. ``extend`` takes records at any rate and is cheap; ``redraw`` paints, and is called
    when the pacer gives a turn. x is counted in batches, epochs or seconds since the first batch.

    Args:
        follow: Checkable action that says whether the newest batch is kept in sight.
        fit: Action that shows the whole run.
        colors: Colours of the theme in force.
    """

    def __init__(
        self, follow: QAction, fit: QAction, colors: Colors, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("monitor")
        self.setAccessibleName("Plots of the run")
        self.pacer = Pacer()
        self.history = History()
        self.x_range = XRange(self.history)
        """Which stretch of the run is shown."""
        self.marks = RunMarks()
        self.smoothing = 0
        """Batches of the running mean, 0 for none."""
        self._stale = True  # what is in sight must be drawn whether or not something came
        self._follow_action = follow
        self._colors = colors
        self._tall = False

        self.bar = PlotBar(follow, fit)
        self.loss = LivePlot(LOSS, self.pacer)
        self.norms = LivePlot(NORMS, self.pacer)
        self.share = LivePlot(SHARE, self.pacer)
        self.plots = (self.loss, self.norms, self.share)
        self.row = BatchRow()
        self._crosshair = crosshair = Crosshair(
            self.plots, self.x_range, self.marks, self.row, self.history, self
        )
        self._split = split = QSplitter(Qt.Orientation.Vertical)
        split.setObjectName("plots")
        split.setChildrenCollapsible(False)
        split.setHandleWidth(3)
        for plot, stretch in zip(self.plots, _SHARES, strict=True):
            split.addWidget(plot)
            split.setStretchFactor(split.count() - 1, stretch)
            plot.x_moved.connect(self.move_x)
            plot.changed.connect(self._on_plot_changed)
            plot.view.fit_asked.connect(self.fit)
            plot.view.clicked.connect(crosshair.click)
            plot.canvas.pointed.connect(crosshair.hover)
            plot.canvas.left.connect(crosshair.leave)
            plot.canvas.sigDeviceRangeChanged.connect(self._on_resized)
        split.setSizes([10 * share for share in _SHARES])
        filled = QWidget()
        column = QVBoxLayout(filled)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addWidget(split, 1)
        column.addWidget(self.row)
        self._filled = filled
        self.empty = EmptyPlots()
        """What is seen while there are no batches."""
        self._stack = QStackedLayout(self)
        self._stack.addWidget(filled)
        self._stack.addWidget(self.empty)
        self._stack.setCurrentWidget(self.empty)

        self._catch_up = QTimer(self)
        self._catch_up.setSingleShot(True)
        self._catch_up.setInterval(1)
        self._catch_up.timeout.connect(self.redraw)
        follow.toggled.connect(self._on_follow_toggled)
        fit.triggered.connect(self.fit)
        self.bar.axis_chosen.connect(self.set_axis)
        self.bar.smoothing_chosen.connect(self.set_smoothing)
        self.bar.outliers_toggled.connect(self._on_outliers)
        self.bar.distribution_toggled.connect(self._on_distribution)
        self.bar.share_toggled.connect(self._on_share)
        follow.setChecked(True)
        self._on_distribution(True)
        self._on_share(True)
        self.set_max_norm(1.0)
        self.recolor(colors)
        self._apply_range()

    # ------------------------------------------------------------ what is shown

    def set_hint(
        self, title: str, text: str, offered: Path | None = None, *, resumable: bool = False
    ) -> None:
        """Say in the empty view what to do for curves, and offer the run in the folder ``offered``."""
        self.empty.tell(title, text, offered, resumable=resumable)

    def set_max_norm(self, max_norm: float | None) -> None:
        """Draw the clipping line at ``max_norm`` (None: no such line), and the line of large norms."""
        if max_norm is None:
            self.norms.remove_line("limit")
        else:
            self.norms.add_line("limit", max_norm, f"max_norm {max_norm:g}", below=True)
        self.norms.add_line("large", LARGE_GRAD_NORM, f"large: above {LARGE_GRAD_NORM:g}")
        self.norms.recolor(self._colors)

    def set_ledger(self, path: Path | None) -> None:
        """Read the rows under the crosshair from this ledger; None when the run has none."""
        self._crosshair.set_ledger(path)

    def set_folder(self, folder: RunFolder) -> None:
        """Read rows from the ledger of this run folder, and mark the checkpoints that it keeps."""
        self.set_ledger(folder.ledger_path)
        self.marks.set_folder(folder.checkpoints_dir)

    def clear(self, history: History | None = None) -> None:
        """Show another run: an empty one, or the batches of ``history``."""
        self.history = History() if history is None else history
        self.marks.clear()
        self.x_range.begin(self.history)
        self._crosshair.begin(self.history)
        for plot in self.plots:
            plot.y_held = False
        self._follow_action.setChecked(True)
        self._stale = True
        self.redraw()

    def extend(self, records: Sequence[StepRecord]) -> None:
        """Take over finished batches; nothing is painted yet."""
        if not records:
            return
        self.history.extend(records)
        self._crosshair.extend(records)

    def add_events(self, events: Sequence[RunEventRecord]) -> None:
        """Take over events, in any order; kinds that are not marked are left out."""
        if self.marks.add(events):
            self._stale = True

    def rewind(self, step: int) -> None:
        """Forget the batches from ``step`` on, and what happened after it: they are about to be made again."""
        self.history.truncate_from(step)
        self._crosshair.forget_recent()
        self.marks.rewind(step)
        self._stale = True

    @property
    def axis(self) -> Axis:
        """What x means."""
        return self.x_range.axis

    @property
    def crosshair(self) -> int | None:
        """Position in the history of the batch that is pointed at."""
        return self._crosshair.position

    @property
    def newest(self) -> int:
        """Number of the newest batch, -1 when there is none."""
        return int(self.history.column("step")[-1]) if len(self.history) else -1

    @property
    def computing(self) -> bool:
        """Whether a curve that is computed has not yet come to the newest batch; redraws follow."""
        return self._catch_up.isActive()

    def redraw(self) -> None:
        """Show everything that came."""
        with self.pacer.measure():
            self._catch_up.stop()
            empty = len(self.history) == 0
            wanted = self.empty if empty else self._filled
            if self._stack.currentWidget() is not wanted:
                self._stack.setCurrentWidget(wanted)
            self._crosshair.follow_history()
            if empty:
                return
            for plot in self.plots:
                plot.show_newest(self.history)
            self._stale |= self.marks.look(time.monotonic())
            first, last = self.x_range.current()
            if not self.x_range.follow and last < self.x_range.newest and not self._stale:
                return  # what is in sight cannot change any more
            self._draw(first, last)

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        self.bar.recolor(colors)
        for plot in self.plots:
            plot.recolor(colors)

    # ------------------------------------------------------------ what a person chooses

    @property
    def plots_view(self) -> QWidget:
        """The plots alone, without what stands above and below them: for pictures."""
        return self._split

    @Slot()
    def fit(self) -> None:
        """Show the whole run, with ranges that follow it."""
        for plot in self.plots:
            plot.y_held = False
        self.x_range.fit()
        self._draw_now()

    @Slot(int)
    def show_batch(self, step: int) -> None:
        """Bring a batch into sight, with more of what came after it; the newest is no longer followed."""
        if self.axis == "step":
            first, last = float(step - _BATCHES_BEFORE), float(step + _BATCHES_AFTER)
        else:
            place = self.history.position_of_step(step)
            ends = np.array([place - _BATCHES_BEFORE, place + _BATCHES_AFTER], np.float64)
            first, last = self.history.to_axis(ends, self.axis).tolist()
        self.x_range.place(first, last)
        self._draw_now()
        if step <= self.newest:
            self.point_at(self.history.position_of_step(step), hold=True)

    @Slot(str)
    def set_axis(self, axis: str) -> None:
        """Count x in another way; the batches in sight stay in sight."""
        chosen = cast(Axis, axis)
        if chosen == self.axis:
            return
        self.x_range.set_axis(chosen)
        self.bar.axis.setCurrentIndex([name for name, _ in AXES].index(chosen))
        for plot in self.plots:
            plot.set_axis(chosen)
        self._stale = True
        self.redraw()
        self._crosshair.place()

    @Slot(int)
    def set_smoothing(self, batches: int) -> None:
        """Draw the running mean over so many batches over the curves; 0 draws the curves alone."""
        if len(self.history) > 1_000_000:
            self.history.forget_derived()  # the mean before is not needed any more
        self.smoothing = batches
        self.bar.smoothing.setCurrentIndex(SMOOTHINGS.index(batches))
        self._stale = True
        self.redraw()

    def point_at(self, position: int, *, hold: bool = False) -> None:
        """Put the crosshair at a batch and read its row; ``hold`` keeps it when the mouse leaves."""
        self._crosshair.point_at(position, hold=hold)

    @Slot(float, float)
    def move_x(self, first: float, last: float) -> None:
        """Show a stretch of x, or the nearest that has something of the run."""
        self.x_range.move(first, last)
        self._follow_action.setChecked(self.x_range.follow)
        with self.pacer.measure():
            self._draw(*self.x_range.shown)

    def pan(self, share: float) -> None:
        """Go forward by a share of what is shown; backward when it is negative."""
        first, last = self.x_range.current()
        shift = share * (last - first)
        self.move_x(first + shift, last + shift)

    def zoom(self, factor: float) -> None:
        """Show ``factor`` times as much, about the crosshair, the newest batch or the middle."""
        first, last = self.x_range.current()
        centre = (first + last) / 2
        if self.crosshair is not None and first <= self.x_range.of(self.crosshair) <= last:
            centre = self.x_range.of(self.crosshair)
        elif self.x_range.follow:
            centre = self.x_range.newest
        self.move_x(centre - (centre - first) * factor, centre + (last - centre) * factor)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the crosshair, zoom and switch by the keys of PLOT_KEYS."""
        if event.matches(QKeySequence.StandardKey.Copy) and self.crosshair is not None:
            QGuiApplication.clipboard().setText(self.row.toolTip() or self.row.text)
        elif len(self.history) == 0 or not self._do_key(event):
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave out the name of x, which the bar tells too, where height is short."""
        super().resizeEvent(event)
        if (event.size().height() >= _TALL_PX) != self._tall:
            self._label_bottoms()

    # ------------------------------------------------------------ keys

    def _do_key(self, event: QKeyEvent) -> bool:
        key = Qt.Key(event.key())
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if event.modifiers() & ~(
            Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier
        ):
            return False
        jump = _BIG_STEP if shift else 1
        actions = {
            Qt.Key.Key_Left: lambda: self._move_crosshair(-jump),
            Qt.Key.Key_Right: lambda: self._move_crosshair(jump),
            Qt.Key.Key_Home: lambda: self._jump_to(0),
            Qt.Key.Key_End: lambda: self._jump_to(len(self.history) - 1),
            Qt.Key.Key_PageUp: lambda: self.pan(-_PAN),
            Qt.Key.Key_PageDown: lambda: self.pan(_PAN),
            Qt.Key.Key_Plus: lambda: self.zoom(1 / _ZOOM),
            Qt.Key.Key_Equal: lambda: self.zoom(1 / _ZOOM),
            Qt.Key.Key_Minus: lambda: self.zoom(_ZOOM),
            Qt.Key.Key_F: self.fit,
            Qt.Key.Key_O: self.bar.outliers.toggle,
            Qt.Key.Key_L: self.loss.log_button.toggle,
            Qt.Key.Key_N: self.norms.log_button.toggle,
            Qt.Key.Key_X: lambda: self.bar.cycle(self.bar.axis),
            Qt.Key.Key_S: lambda: self.bar.cycle(self.bar.smoothing),
            Qt.Key.Key_D: self.bar.distribution.toggle,
            Qt.Key.Key_C: self.bar.share.toggle,
            Qt.Key.Key_Escape: self._crosshair.hide,
        }
        action = actions.get(key)
        if action is None:
            return False
        action()
        return True

    def _move_crosshair(self, batches: int) -> None:
        if self.crosshair is None:
            first, last = self.history.positions(*self.x_range.current(), self.axis)
            position = last if batches < 0 else first
            # The neighbours beyond the edges are not in sight.
            x = self.x_range.of(position)
            low, high = self.x_range.current()
            position += int(x < low) - int(x > high)
        else:
            position = self.crosshair + batches
        position = min(max(position, 0), len(self.history) - 1)
        self._into_sight(position)
        self.point_at(position, hold=True)

    def _jump_to(self, position: int) -> None:
        if position and not self.x_range.follow:
            self._follow_action.setChecked(True)
        else:
            self._into_sight(position)
        self.point_at(position, hold=True)

    def _into_sight(self, position: int) -> None:
        first, last = self.x_range.current()
        x = self.x_range.of(position)
        if first <= x <= last:
            return
        span = last - first
        begin = x - span / 4 if x < first else x - 3 * span / 4
        self.move_x(begin, begin + span)

    # ------------------------------------------------------------ drawing

    def _draw_now(self) -> None:
        """Draw the range that was chosen, and show whether it follows."""
        self._follow_action.setChecked(self.x_range.follow)
        self._draw(*self.x_range.current())

    def _draw(self, first: float, last: float) -> None:
        self.x_range.shown = (first, last)
        self._apply_range()
        if len(self.history) == 0:
            return
        begin, end = self.history.positions(first, last, self.axis)
        decay = decay_of(self.smoothing)
        stretch = Stretch(self.history, begin, end, self.axis, decay)
        shown = [plot for plot in self.plots if not plot.isHidden()]
        whole = True
        for plot in shown:
            whole &= plot.draw(stretch)
        self._draw_epochs(begin, end, shown)
        places, events = self.marks.between(self.history, begin, end)
        self.loss.set_events(self.history.to_axis(places, self.axis), events)
        self._stale = not whole
        if not whole:
            self._catch_up.start()

    def _draw_epochs(self, begin: int, end: int, shown: Sequence[LivePlot]) -> None:
        epoch_N = self.history.column("epoch")
        if end < begin:
            return
        first, last = int(epoch_N[begin]), int(epoch_N[end])
        low, high = self.x_range.shown
        share = max(self.x_range.of(end) - self.x_range.of(begin), 1e-9) / max(high - low, 1e-9)
        most = max(1.0, share * self.loss.view.width() / _EPOCH_LINES_PX)
        every = _round_stride((last - first) / most)
        epochs = np.arange(first + (-first) % every, last + 1, every, dtype=epoch_N.dtype)
        starts = np.searchsorted(epoch_N, epochs)
        x_N = self.history.to_axis(starts.astype(np.float64), self.axis)
        for plot in shown:
            plot.set_epochs(x_N, epochs)

    def _apply_range(self) -> None:
        for plot in self.plots:
            set_range(plot.view, 0, *self.x_range.shown)

    # ------------------------------------------------------------ what happened

    @Slot(bool)
    def _on_follow_toggled(self, follow: bool) -> None:
        if follow == self.x_range.follow:
            return
        if follow:
            self.x_range.go_on_following()
        else:
            self.x_range.follow = False
        self._stale = True
        self._draw_now()

    @Slot()
    def _on_plot_changed(self) -> None:
        self._stale = True
        self.redraw()
        self._crosshair.place()

    @Slot(bool)
    def _on_outliers(self, shown: bool) -> None:
        for plot in self.plots:
            plot.all_values = shown
            plot.y_held = False
        self._on_plot_changed()

    @Slot(bool)
    def _on_distribution(self, shown: bool) -> None:
        for plot in self.plots:
            plot.show_side(shown)
        self._on_plot_changed()

    @Slot(bool)
    def _on_share(self, shown: bool) -> None:
        self.share.setVisible(shown)
        self._label_bottoms()
        self._on_plot_changed()

    def _label_bottoms(self) -> None:
        shown = self.bar.share.isChecked()
        named = self._tall = self.height() >= _TALL_PX
        self.norms.label_bottom(not shown, named=named)
        self.share.label_bottom(shown, named=named)

    @Slot()
    def _on_resized(self) -> None:
        self._stale = True


def _round_stride(stride: float) -> int:
    """Give the next of 1, 2, 5, 10, 20, 50 ... at or above ``stride``."""
    if stride <= 1.0:
        return 1
    decade: int = 10 ** math.floor(math.log10(stride))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= stride)
