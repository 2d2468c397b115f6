"""The exact row of the batch under the crosshair, as the ledger has it."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.background import Job, background
from signscope.errors import LedgerError
from signscope.reader import LedgerReader
from signscope.records import Outcome, StepRecord

_OUTCOMES = {
    Outcome.APPLIED: "applied",
    Outcome.SKIPPED_NON_FINITE_LOSS: "left out: loss not finite",
    Outcome.SKIPPED_NON_FINITE_GRADIENT: "left out: gradient not finite",
    Outcome.SKIPPED_BY_POLICY: "left out by policy",
    Outcome.FAILED_OUT_OF_MEMORY: "failed: out of memory",
    Outcome.DISCARDED: "discarded by the script",
    Outcome.SKIPPED_BY_SCALER: "skipped by the GradScaler",
    Outcome.LEFT_AT_END: "left when the script ended",
}
_HINT = "Point at a batch, or press ← or → in a plot, to read its row in the ledger"


class RowReader(QObject):
    """Reads single rows of a ledger in a thread; only the newest question is answered.

    GUI thread only. The file is opened for each question, so that the program that writes it and
    whoever moves the run folder are never held up.
    """

    answered = Signal(int, object, str)
    """A step, its StepRecord or None when the ledger does not have it, and why it could not be read."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path: Path | None = None
        self._question: Job[_Answer] | None = None
        self._waiting: int | None = None

    def set_ledger(self, path: Path | None) -> None:
        """Answer from this file from now on; None for no file."""
        self._path = path
        self._waiting = None

    def ask(self, step: int) -> None:
        """Ask for the row of a batch; a question not yet begun is forgotten for it."""
        path = self._path
        if path is None:
            return
        if self._question is not None:
            self._waiting = step
            return
        self._question = background(self, lambda _: _read(path, step), "reading a row")
        self._question.finished.connect(self._on_read)

    @Slot()
    def _on_read(self) -> None:
        question, self._question = self._question, None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.ask(waiting)
        assert question is not None
        answer = question.result()
        if answer.path == self._path:
            self.answered.emit(answer.step, answer.record, answer.error)


@dataclass(frozen=True, slots=True)
class _Answer:
    path: Path
    step: int
    record: StepRecord | None
    error: str


def _read(path: Path, step: int) -> _Answer:
    try:
        with LedgerReader(path) as ledger:
            return _Answer(path, step, ledger.step(step), "")
    except LedgerError as error:
        return _Answer(path, step, None, str(error))


class BatchRow(QWidget):
    """Two lines of fixed height below the plots; the tooltip has every number in full."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("batch_row")
        self.setAccessibleName("Row of the batch under the crosshair")
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self.record: StepRecord | None = None
        """What is shown."""
        self._where = _Line("batch_where", QPalette.ColorRole.Text)
        self._where.setProperty("role", "heading")
        self._outcome = QLabel()
        self._outcome.setObjectName("batch_outcome")
        self._numbers = _Line("batch_numbers", QPalette.ColorRole.Text)
        first = QHBoxLayout()
        first.setSpacing(8)
        first.addWidget(self._where, 1)
        first.addWidget(self._outcome)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 3, 10, 5)
        layout.setSpacing(1)
        layout.addLayout(first)
        layout.addWidget(self._numbers)
        self.show_hint()

    @property
    def text(self) -> str:
        """Both lines, whole."""
        return f"{self._where.text()}  {self._outcome.text()}\n{self._numbers.text()}".strip()

    def show_hint(self) -> None:
        """Say how to get a row."""
        self.record = None
        self._where.setText("")
        self._outcome.setText("")
        self._set_numbers(_HINT, muted=True)
        self.setToolTip("")

    def show_record(self, record: StepRecord, note: str = "") -> None:
        """Show a row; ``note`` says what else is known at this batch."""
        self.record = record
        self._where.setText(
            f"Batch {record.step}  ·  epoch {record.epoch}, number {record.batch_idx + 1} in it"
        )
        role = "warning" if not record.outcome.applied else ""
        outcome = _OUTCOMES[record.outcome]
        if record.outcome.applied:
            outcome += f", clipped ×{record.clip_coef:.3g}" if record.clipped else ", not clipped"
        self._set_role(self._outcome, role)
        self._outcome.setText(outcome)
        self._set_numbers("   ".join([_short(record), *([note] if note else [])]))
        self.setToolTip("\n".join([*full_row(record), *([note] if note else [])]))

    def show_pending(self, step: int, epoch: int, numbers: str, note: str = "") -> None:
        """Show what the curves have of a batch whose row is not there, or not there yet."""
        self.record = None
        self._where.setText(f"Batch {step}  ·  epoch {epoch}")
        self._outcome.setText("")
        self._set_numbers("   ".join([numbers, *([note] if note else [])]))
        self.setToolTip(note)

    def _set_numbers(self, text: str, *, muted: bool = False) -> None:
        self._set_role(self._numbers, "muted" if muted else "")
        self._numbers.setText(text)

    @staticmethod
    def _set_role(label: QLabel, role: str) -> None:
        if (label.property("role") or "") != role:
            label.setProperty("role", role)
            label.style().unpolish(label)
            label.style().polish(label)


class _Line(QLabel):
    """A line of text that ends in … where there is no room for it."""

    def __init__(self, name: str, role: QPalette.ColorRole) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setForegroundRole(role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Paint as much of the text as fits."""
        painter = QPainter(self)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter, text)


def full_row(record: StepRecord) -> list[str]:
    """Give every number of a row with its name, a line each, exactly as the ledger has it."""
    when = datetime.datetime.fromtimestamp(record.wall_time).isoformat(" ", "milliseconds")
    lines = [
        f"batch {record.step}: number {record.batch_idx + 1} of epoch {record.epoch}, {when}",
        f"outcome {record.outcome}" + (f": {record.detail}" if record.detail else ""),
        f"loss {record.loss!r}, per gloss {record.loss_per_gloss!r}",
        f"gradient norm {record.grad_norm_pre!r} before clipping, {record.grad_norm_post!r} after",
        f"clip coefficient {record.clip_coef!r}, learning rate {record.lr!r}",
        f"blank fraction {record.blank_fraction!r}, {record.frames} frames, {record.glosses} glosses",
        f"waited {record.data_s:.4f} s for data, step took {record.step_s:.4f} s, "
        f"{record.memory_mib:.0f} MiB",
        "samples:",
    ]
    shown = record.sample_ids[:20]
    more = len(record.sample_ids) - len(shown)
    return [*lines, *(f"  {name}" for name in shown), *([f"  and {more} more"] if more else [])]


def _short(record: StepRecord) -> str:
    norms = f"norm {_figure(record.grad_norm_pre)} → {_figure(record.grad_norm_post)}"
    count = len(record.sample_ids)
    parts = [
        f"loss {_figure(record.loss)}",
        norms,
        f"lr {record.lr:g}",
        f"{count} sample{'' if count == 1 else 's'}: {', '.join(record.sample_ids)}",
    ]
    return "   ".join([*([record.detail] if record.detail else []), *parts])


def _figure(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.6g}"
