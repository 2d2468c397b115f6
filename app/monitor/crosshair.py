"""The batch that is pointed at: a line through all plots, and its row of the ledger below them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Slot

from app.monitor.batch_row import BatchRow, RowReader
from app.monitor.legend import number
from app.monitor.live_plot import LivePlot
from app.monitor.run_marks import RunMarks
from app.monitor.x_range import XRange
from core.analysis.history import History
from signscope.records import StepRecord

_RECENT = 4096
"""Records of a live run kept for the crosshair: the newest rows may not be in the ledger yet."""
_ASK_AFTER_MS = 25


class Crosshair(QObject):
    """Points at one batch of the run shown. GUI thread only.

    Args:
        plots: Show the line.
        x: Where batches are.
        marks: What else is known of a batch.
        row: Shows the batch.
    """

    def __init__(
        self,
        plots: Sequence[LivePlot],
        x: XRange,
        marks: RunMarks,
        row: BatchRow,
        history: History,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.position: int | None = None
        """Position in the history of the batch that is pointed at."""
        self._held = False  # it stays when the mouse leaves
        self._plots = plots
        self._x = x
        self._marks = marks
        self._row = row
        self._history = history
        self._recent: deque[StepRecord] = deque(maxlen=_RECENT)
        self._rows = RowReader(self)
        self._rows.answered.connect(self._on_row)
        self._ask_row = QTimer(self)
        self._ask_row.setSingleShot(True)
        self._ask_row.setInterval(_ASK_AFTER_MS)
        self._ask_row.timeout.connect(self.ask_row)

    def begin(self, history: History) -> None:
        """Point at nothing of another run."""
        self._history = history
        self.forget_recent()
        self.set_ledger(None)
        self.hide()

    def set_ledger(self, path: Path | None) -> None:
        """Read the rows from this ledger; None when the run has none."""
        self._rows.set_ledger(path)

    def extend(self, records: Sequence[StepRecord]) -> None:
        """Keep new batches at hand until the ledger has them."""
        if self._recent and records[0].step <= self._recent[-1].step:
            self._recent.clear()  # resumed from a checkpoint
        self._recent.extend(records[-_RECENT:])

    def forget_recent(self) -> None:
        """Read every row from the ledger from now on."""
        self._recent.clear()

    def point_at(self, position: int, *, hold: bool) -> None:
        """Point at a batch and read its row; ``hold`` keeps it when the mouse leaves."""
        if not 0 <= position < len(self._history):
            return
        self._held = self._held or hold
        if position == self.position:
            return
        self.position = position
        self.place()
        step = self._step_at(position)
        if self._row.record is None or self._row.record.step != step:
            self._show_pending(position)
            self._ask_row.start()

    def place(self) -> None:
        """Put the line where the batch is now."""
        x = 0.0 if self.position is None else self._x.of(self.position)
        for plot in self._plots:
            plot.show_crosshair(self._history, self.position, x)

    def follow_history(self) -> None:
        """Hide when the batch is gone: the run was resumed from before it."""
        if self.position is not None and self.position >= len(self._history):
            self.hide()

    @Slot()
    def hide(self) -> None:
        """Point at nothing."""
        self.position = None
        self._held = False
        self._ask_row.stop()
        self.place()
        self._row.show_hint()

    @Slot(float)
    def hover(self, x: float) -> None:
        """Point at what is under the mouse."""
        self._point_near(x, hold=False)

    @Slot(float)
    def click(self, x: float) -> None:
        """Point at what was clicked, and stay there."""
        self._point_near(x, hold=True)

    @Slot()
    def leave(self) -> None:
        """The mouse has left: hide unless held."""
        if not self._held:
            self.hide()

    @Slot()
    def ask_row(self) -> None:
        """Read the row of the batch now."""
        if self.position is None or self.position >= len(self._history):
            return
        step = self._step_at(self.position)
        self._rows.ask(step)
        recent = self._recent_record(step)
        if recent is not None:  # the same record that goes to the ledger, without waiting for it
            self._row.show_record(recent, self._marks.note(step))

    def _point_near(self, x: float, *, hold: bool) -> None:
        position = self._x.position_at(x)
        if position is not None:
            self.point_at(position, hold=hold)

    def _step_at(self, position: int) -> int:
        return int(self._history.column("step")[position])

    def _show_pending(self, position: int) -> None:
        history = self._history
        loss, pre, post = (
            number(float(history.column(name)[position]))
            for name in ("loss", "grad_norm_pre", "grad_norm_post")
        )
        step = self._step_at(position)
        epoch = int(history.column("epoch")[position])
        numbers = f"loss {loss}   norm {pre} → {post}"
        self._row.show_pending(step, epoch, numbers, self._marks.note(step))

    @Slot(int, object, str)
    def _on_row(self, step: int, record: StepRecord | None, error: str) -> None:
        if self.position is None or self.position >= len(self._history):
            return
        if self._step_at(self.position) != step:
            return
        if record is not None:
            self._row.show_record(record, self._marks.note(step))
        elif error and self._row.record is None:
            self._row.setToolTip(error)

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
