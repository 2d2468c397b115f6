"""The live plots: loss, gradient norms and the share of clipped batches over one x axis."""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PySide6.QtCore import Qt, QTimer, Slot
from PySide6.QtGui import (
    QAction,
    QGuiApplication,
    QHideEvent,
    QKeyEvent,
    QKeySequence,
    QPalette,
    QResizeEvent,
)
from PySide6.QtWidgets import QLabel, QSplitter, QStackedLayout, QVBoxLayout, QWidget

from app.monitor.batch_row import BatchRow, RowReader
from app.monitor.kept_checkpoints import kept_checkpoints
from app.monitor.legend import CurveSpec, number
from app.monitor.live_plot import SHARE_WINDOW, LivePlot, PlotSpec, Stretch, set_range
from app.monitor.marks import MARKED
from app.monitor.pacing import Pacer
from app.monitor.plot_bar import AXES, SMOOTHINGS, PlotBar, decay_of
from app.theme import Colors
from core.analysis.history import Axis, History
from signscope.folder import RunFolder
from signscope.records import LARGE_GRAD_NORM, RunEventRecord, StepRecord

_FIRST_SPANS: dict[Axis, float] = {"step": 50.0, "epoch": 1.0, "time": 10.0}
"""What the x axis shows before there is more."""
_LEAST_BATCHES = 4
"""Zooming ends here."""
_BATCHES_BEFORE, _BATCHES_AFTER = 20, 80
"""Neighbours of a batch that was asked for."""
_RECENT = 4096
"""Records of a live run kept for the crosshair: the newest rows may not be in the ledger yet."""
_MOST_EVENTS = 2000
_LOOK_EVERY_S = 2.0
"""How often the folder is looked at for checkpoints."""
_EPOCH_LINES_PX = 24.0
_ZOOM = 1.5
_PAN = 0.8
_BIG_STEP = 10
_TALL_PX = 480
_SHARES = (38, 40, 22)
"""How the height is divided among the plots at first."""

LOSS = PlotSpec(
    "Loss",
    (CurveSpec("loss", "loss", "loss", "Summed over a sentence, averaged over the batch"),),
    distribution="loss",
    top=True,
)
NORMS = PlotSpec(
    "Gradient norm",
    (
        CurveSpec(
            "grad_norm_pre", "before clipping", "norm_pre", "L2 norm of all gradients of the batch"
        ),
        CurveSpec("grad_norm_post", "after clipping", "norm_post", "What the optimiser was given"),
    ),
    log=True,
    distribution="grad_norm_pre",
)
SHARE = PlotSpec(
    "Clipped",
    (
        CurveSpec(
            "clipped_share",
            f"of the last {SHARE_WINDOW} batches",
            "share",
            f"How many of the newest {SHARE_WINDOW} batches were clipped",
            percent=True,
        ),
    ),
    share=True,
)


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
        self.axis: Axis = "step"
        """What x means."""
        self.smoothing = 0
        """Batches of the running mean, 0 for none."""
        self.crosshair: int | None = None
        """Position in the history of the batch that is pointed at."""
        self._crosshair_held = False  # it stays when the mouse leaves
        self._recent: deque[StepRecord] = deque(maxlen=_RECENT)
        self._events: list[RunEventRecord] = []
        self._checkpoints_dir: Path | None = None
        self._kept: tuple[RunEventRecord, ...] = ()
        self._looked_at_s = -math.inf
        self._dirty = False  # something came since the last redraw
        self._stale = True  # what is in sight must be drawn whether or not something came
        self._follow_action = follow
        self._follow = True
        self._span: float | None = None  # None: the whole run
        self._right = _FIRST_SPANS["step"]
        self._range = (0.0, self._right)
        self._colors = colors
        self._tall = False

        self.bar = PlotBar(follow, fit)
        self.loss = LivePlot(LOSS, self.pacer)
        self.norms = LivePlot(NORMS, self.pacer)
        self.share = LivePlot(SHARE, self.pacer)
        self.plots = (self.loss, self.norms, self.share)
        self.row = BatchRow()
        self._split = split = QSplitter(Qt.Orientation.Vertical)
        split.setObjectName("plots")
        split.setChildrenCollapsible(False)
        split.setHandleWidth(3)
        for plot, stretch in zip(self.plots, _SHARES, strict=True):
            split.addWidget(plot)
            split.setStretchFactor(split.count() - 1, stretch)
            plot.x_moved.connect(self._on_x_moved)
            plot.changed.connect(self._on_plot_changed)
            plot.view.fit_asked.connect(self.fit)
            plot.view.clicked.connect(self._on_clicked)
            plot.canvas.pointed.connect(self._on_pointed)
            plot.canvas.left.connect(self._on_left)
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
        self._empty = _EmptyPlots()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(filled)
        self._stack.addWidget(self._empty)
        self._stack.setCurrentWidget(self._empty)

        self._rows = RowReader(self)
        self._rows.answered.connect(self._on_row)
        self._ask_row = QTimer(self)
        self._ask_row.setSingleShot(True)
        self._ask_row.setInterval(25)
        self._ask_row.timeout.connect(self._on_ask_row)
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

    def set_hint(self, title: str, text: str) -> None:
        """Say in the empty view what to do for curves."""
        self._empty.tell(title, text)

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
        self._rows.set_ledger(path)

    def set_folder(self, folder: RunFolder) -> None:
        """Read rows from the ledger of this run folder, and mark the checkpoints that it keeps."""
        self.set_ledger(folder.ledger_path)
        self._checkpoints_dir = folder.checkpoints_dir
        self._looked_at_s = -math.inf
        self._dirty = True

    def clear(self, history: History | None = None) -> None:
        """Show another run: an empty one, or the batches of ``history``."""
        self.history = History() if history is None else history
        self._recent.clear()
        self._events = []
        self._checkpoints_dir, self._kept = None, ()
        self._rows.set_ledger(None)
        self._hide_crosshair()
        self._span, self._right = None, _FIRST_SPANS[self.axis]
        for plot in self.plots:
            plot.y_held = False
        self._follow = True
        self._follow_action.setChecked(True)
        self._dirty = self._stale = True
        self.redraw()

    def extend(self, records: Sequence[StepRecord]) -> None:
        """Take over finished batches; nothing is painted yet."""
        if not records:
            return
        if self._recent and records[0].step <= self._recent[-1].step:
            self._recent.clear()  # resumed from a checkpoint
        self.history.extend(records)
        self._recent.extend(records[-_RECENT:])
        self._dirty = True

    def add_events(self, events: Sequence[RunEventRecord]) -> None:
        """Take over events, in any order; kinds that are not marked are left out."""
        for event in events:
            if event.kind in MARKED:
                insort(self._events, event, key=lambda each: each.step)
                self._dirty = self._stale = True

    def rewind(self, step: int) -> None:
        """Forget the batches from ``step`` on, and what happened after it: they are about to be made again."""
        self.history.truncate_from(step)
        self._recent.clear()
        self._events = [event for event in self._events if event.step <= step]
        self._dirty = self._stale = True

    @property
    def newest(self) -> int:
        """Number of the newest batch, -1 when there is none."""
        return int(self.history.column("step")[-1]) if len(self.history) else -1

    @property
    def dirty(self) -> bool:
        """Whether something came since the last redraw."""
        return self._dirty

    @property
    def computing(self) -> bool:
        """Whether a curve that is computed has not yet come to the newest batch; redraws follow."""
        return self._catch_up.isActive()

    def redraw(self) -> None:
        """Show everything that came."""
        with self.pacer.measure():
            self._catch_up.stop()
            self._dirty = False
            empty = len(self.history) == 0
            wanted = self._empty if empty else self._filled
            if self._stack.currentWidget() is not wanted:
                self._stack.setCurrentWidget(wanted)
            if self.crosshair is not None and self.crosshair >= len(self.history):
                self._hide_crosshair()  # the run was resumed from before that batch
            if empty:
                return
            for plot in self.plots:
                plot.show_newest(self.history)
            self._look_for_checkpoints()
            first, last = self._x_range()
            if not self._follow and last < self._newest_x() and not self._stale:
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
        self._span = None
        for plot in self.plots:
            plot.y_held = False
        self._right = max(_FIRST_SPANS[self.axis], self._newest_x() * 1.02)
        self._set_follow(True)
        self._draw(*self._x_range())

    @Slot(int)
    def show_batch(self, step: int) -> None:
        """Bring a batch into sight, with more of what came after it; the newest is no longer followed."""
        self._set_follow(False)
        if self.axis == "step":
            first, last = float(step - _BATCHES_BEFORE), float(step + _BATCHES_AFTER)
        else:
            place = self.history.position_of_step(step)
            ends = np.array([place - _BATCHES_BEFORE, place + _BATCHES_AFTER], np.float64)
            first, last = self.history.to_axis(ends, self.axis).tolist()
        self._draw(first, last)
        if step <= self.newest:
            self.point_at(self.history.position_of_step(step), hold=True)

    @Slot(str)
    def set_axis(self, axis: str) -> None:
        """Count x in another way; the batches in sight stay in sight."""
        chosen = cast(Axis, axis)
        if chosen == self.axis:
            return
        first, last = self._x_range()
        places = self.history.positions(first, last, self.axis)
        self.axis = chosen
        self.bar.axis.setCurrentIndex([name for name, _ in AXES].index(chosen))
        for plot in self.plots:
            plot.set_axis(chosen)
        if self._follow:
            ends = self.history.to_axis(np.array(places, np.float64), chosen)
            if self._span is not None and len(self.history):
                self._span = max(float(ends[1] - ends[0]), self._least_span())
            self._right = max(_FIRST_SPANS[chosen], self._newest_x() * 1.02)
            if self._span is not None:
                self._right = self._newest_x() + self._span / 12
        else:
            first, last = self.history.to_axis(np.array(places, np.float64), chosen).tolist()
            self._range = (first, max(last, first + self._least_span()))
        self._stale = True
        self.redraw()
        self._place_crosshair()

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
        if not 0 <= position < len(self.history):
            return
        self._crosshair_held = self._crosshair_held or hold
        if position == self.crosshair:
            return
        self.crosshair = position
        self._place_crosshair()
        step = self._step_at(position)
        if self.row.record is None or self.row.record.step != step:
            self._show_pending(position)
            self._ask_row.start()

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

    def hideEvent(self, event: QHideEvent) -> None:
        """Let a row that is being read be read to its end."""
        super().hideEvent(event)
        self._rows.wait()

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
            Qt.Key.Key_PageUp: lambda: self._pan(-_PAN),
            Qt.Key.Key_PageDown: lambda: self._pan(_PAN),
            Qt.Key.Key_Plus: lambda: self._zoom(1 / _ZOOM),
            Qt.Key.Key_Equal: lambda: self._zoom(1 / _ZOOM),
            Qt.Key.Key_Minus: lambda: self._zoom(_ZOOM),
            Qt.Key.Key_F: self.fit,
            Qt.Key.Key_O: self.bar.outliers.toggle,
            Qt.Key.Key_L: self.loss.log_button.toggle,
            Qt.Key.Key_N: self.norms.log_button.toggle,
            Qt.Key.Key_X: lambda: self.bar.cycle(self.bar.axis),
            Qt.Key.Key_S: lambda: self.bar.cycle(self.bar.smoothing),
            Qt.Key.Key_D: self.bar.distribution.toggle,
            Qt.Key.Key_C: self.bar.share.toggle,
            Qt.Key.Key_Escape: self._hide_crosshair,
        }
        action = actions.get(key)
        if action is None:
            return False
        action()
        return True

    def _move_crosshair(self, batches: int) -> None:
        if self.crosshair is None:
            first, last = self.history.positions(*self._x_range(), self.axis)
            position = last if batches < 0 else first
            # The neighbours beyond the edges are not in sight.
            x = self._x_of(position)
            low, high = self._x_range()
            position += int(x < low) - int(x > high)
        else:
            position = self.crosshair + batches
        position = min(max(position, 0), len(self.history) - 1)
        self._into_sight(position)
        self.point_at(position, hold=True)

    def _jump_to(self, position: int) -> None:
        if position and not self._follow:
            self._follow_action.setChecked(True)
        else:
            self._into_sight(position)
        self.point_at(position, hold=True)

    def _into_sight(self, position: int) -> None:
        first, last = self._x_range()
        x = self._x_of(position)
        if first <= x <= last:
            return
        span = last - first
        self._move_x(x - span / 4 if x < first else x - 3 * span / 4, span)

    def _pan(self, share: float) -> None:
        first, last = self._x_range()
        self._move_x(first + share * (last - first), last - first)

    def _zoom(self, factor: float) -> None:
        first, last = self._x_range()
        centre = (first + last) / 2
        if self.crosshair is not None and first <= self._x_of(self.crosshair) <= last:
            centre = self._x_of(self.crosshair)
        elif self._follow:
            centre = self._newest_x()
        self._move_x(centre - (centre - first) * factor, (last - first) * factor)

    def _move_x(self, first: float, span: float) -> None:
        self._on_x_moved(first, first + span)

    # ------------------------------------------------------------ ranges

    def _newest_x(self) -> float:
        return self._x_of(len(self.history) - 1) if len(self.history) else 0.0

    def _x_of(self, position: int) -> float:
        return float(self.history.to_axis(np.array([position], np.float64), self.axis)[0])

    def _least_span(self) -> float:
        """The shortest stretch that is shown: a few batches."""
        count = len(self.history)
        if self.axis == "step" or count < 2:
            return float(_LEAST_BATCHES)
        return max(_LEAST_BATCHES * self._newest_x() / count, 1e-9)

    def _x_range(self) -> tuple[float, float]:
        if not self._follow:
            return self._range
        first_span = _FIRST_SPANS[self.axis]
        newest = self._newest_x()
        # The right end moves in strides, so that the axes need no painting for each batch.
        if newest >= self._right:
            stride = newest / 4 if self._span is None else self._span / 12
            self._right = newest + max(stride, first_span / 50)
        if self._span is None:
            return -0.01 * self._right, self._right
        return self._right - self._span, self._right

    def _draw(self, first: float, last: float) -> None:
        self._range = (first, last)
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
        self._draw_events(begin, end)
        self._stale = not whole
        if not whole:
            self._catch_up.start()

    def _draw_epochs(self, begin: int, end: int, shown: Sequence[LivePlot]) -> None:
        epoch_N = self.history.column("epoch")
        if end < begin:
            return
        first, last = int(epoch_N[begin]), int(epoch_N[end])
        low, high = self._range
        share = max(self._x_of(end) - self._x_of(begin), 1e-9) / max(high - low, 1e-9)
        most = max(1.0, share * self.loss.view.width() / _EPOCH_LINES_PX)
        every = _round_stride((last - first) / most)
        epochs = np.arange(first + (-first) % every, last + 1, every, dtype=epoch_N.dtype)
        starts = np.searchsorted(epoch_N, epochs)
        x_N = self.history.to_axis(starts.astype(np.float64), self.axis)
        for plot in shown:
            plot.set_epochs(x_N, epochs)

    def _look_for_checkpoints(self) -> None:
        now_s = time.monotonic()
        if self._checkpoints_dir is None or now_s - self._looked_at_s < _LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        kept = kept_checkpoints(self._checkpoints_dir)
        if kept != self._kept:
            self._kept = kept
            self._stale = True

    def _draw_events(self, begin: int, end: int) -> None:
        events = [*self._kept, *self._events[-_MOST_EVENTS:]]
        events.sort(key=lambda each: each.step)
        if not events or end < begin:
            self.loss.set_events(np.empty(0), ())
            return
        step_N = self.history.column("step")
        steps = np.array([event.step for event in events], step_N.dtype)
        places = np.minimum(np.searchsorted(step_N, steps), len(step_N) - 1)
        some = np.flatnonzero((places >= begin) & (places <= end))
        x_N = self.history.to_axis(places[some].astype(np.float64), self.axis)
        self.loss.set_events(x_N, [events[i] for i in some.tolist()])

    def _apply_range(self) -> None:
        for plot in self.plots:
            set_range(plot.view, 0, *self._range)

    def _set_follow(self, follow: bool) -> None:
        self._follow = follow
        self._follow_action.setChecked(follow)

    def _within(self, first: float, last: float) -> tuple[float, float]:
        """The range nearest to the one asked for that still shows something of the run."""
        newest = max(self._newest_x(), _FIRST_SPANS[self.axis])
        most = 1.5 * newest
        span = min(max(last - first, self._least_span()), most)
        if span != last - first:
            middle = (first + last) / 2
            first, last = middle - span / 2, middle + span / 2
        shift = max(-0.5 * span - first, 0.0) or min(newest + 0.5 * span - last, 0.0)
        return first + shift, last + shift

    # ------------------------------------------------------------ crosshair

    def _position_at(self, x: float) -> int | None:
        """The batch nearest to an x, None without any."""
        first, last = self.history.positions(x, x, self.axis)
        if last < first:
            return None
        last = min(last, first + 64)
        near = self.history.to_axis(np.arange(first, last + 1, dtype=np.float64), self.axis)
        return first + int(np.abs(near - x).argmin())

    def _step_at(self, position: int) -> int:
        return int(self.history.column("step")[position])

    def _place_crosshair(self) -> None:
        position = self.crosshair
        x = 0.0 if position is None else self._x_of(position)
        for plot in self.plots:
            plot.show_crosshair(self.history, position, x)

    def _hide_crosshair(self) -> None:
        self.crosshair = None
        self._crosshair_held = False
        self._ask_row.stop()
        self._place_crosshair()
        self.row.show_hint()

    def _show_pending(self, position: int) -> None:
        history = self.history
        loss, pre, post = (
            number(float(history.column(name)[position]))
            for name in ("loss", "grad_norm_pre", "grad_norm_post")
        )
        step = self._step_at(position)
        epoch = int(history.column("epoch")[position])
        self.row.show_pending(step, epoch, f"loss {loss}   norm {pre} → {post}", self._note(step))

    def _note(self, step: int) -> str:
        told = [
            f"{each.kind.value}: {each.text}"
            for each in (*self._kept, *self._events)
            if each.step == step
        ]
        return "; ".join(told[-3:])

    @Slot()
    def _on_ask_row(self) -> None:
        if self.crosshair is None or self.crosshair >= len(self.history):
            return
        step = self._step_at(self.crosshair)
        self._rows.ask(step)
        recent = self._recent_record(step)
        if recent is not None:  # the same record that goes to the ledger, without waiting for it
            self.row.show_record(recent, self._note(step))

    @Slot(int, object, str)
    def _on_row(self, step: int, record: StepRecord | None, error: str) -> None:
        if self.crosshair is None or self.crosshair >= len(self.history):
            return
        if self._step_at(self.crosshair) != step:
            return
        if record is not None:
            self.row.show_record(record, self._note(step))
        elif error and self.row.record is None:
            self.row.setToolTip(error)

    def _recent_record(self, step: int) -> StepRecord | None:
        if not self._recent:
            return None
        place = step - self._recent[0].step
        if not 0 <= place < len(self._recent):
            return None
        record = self._recent[place]
        if record.step == step:
            return record
        return next((each for each in self._recent if each.step == step), None)

    @Slot(float)
    def _on_pointed(self, x: float) -> None:
        position = self._position_at(x)
        if position is not None:
            self.point_at(position)

    @Slot(float)
    def _on_clicked(self, x: float) -> None:
        position = self._position_at(x)
        if position is not None:
            self.point_at(position, hold=True)

    @Slot()
    def _on_left(self) -> None:
        if not self._crosshair_held:
            self._hide_crosshair()

    # ------------------------------------------------------------ what happened

    @Slot(bool)
    def _on_follow_toggled(self, follow: bool) -> None:
        if follow == self._follow:
            return
        if follow:
            first, last = self._range
            newest = self._newest_x()
            self._span = None if first <= 0.0 else last - first
            self._right = newest if self._span is None else newest + self._span / 12
            self._right = max(self._right, _FIRST_SPANS[self.axis] if self._span is None else 0.0)
        self._follow = follow
        self._stale = True
        self._draw(*self._x_range())

    @Slot(float, float)
    def _on_x_moved(self, first: float, last: float) -> None:
        first, last = self._within(first, last)
        follow = last >= self._newest_x()
        if follow:
            self._span = None if first <= 0.0 else last - first
            self._right = last
        self._range = (first, last)
        self._set_follow(follow)
        with self.pacer.measure():
            self._draw(first, last)

    @Slot()
    def _on_plot_changed(self) -> None:
        self._stale = True
        self.redraw()
        self._place_crosshair()

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
        self._stale = self._dirty = True


class _EmptyPlots(QWidget):
    """What stands in the place of the plots before the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("empty_plots")
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        font = self._title.font()
        font.setPointSizeF(font.pointSizeF() * 1.35)
        self._title.setFont(font)
        self._text = QLabel()
        self._text.setProperty("role", "muted")
        for label in (self._title, self._text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(40, 40, 40, 40)
        layout.setSpacing(10)
        layout.addStretch(1)
        layout.addWidget(self._title)
        layout.addWidget(self._text)
        layout.addStretch(1)

    def tell(self, title: str, text: str) -> None:
        self._title.setText(title)
        self._text.setText(text)


def _round_stride(stride: float) -> int:
    """Give the next of 1, 2, 5, 10, 20, 50 ... at or above ``stride``."""
    if stride <= 1.0:
        return 1
    decade: int = 10 ** math.floor(math.log10(stride))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= stride)
