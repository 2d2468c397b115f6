"""One row an epoch: loss, word errors, and what became of its batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt, Slot
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHeaderView,
    QLabel,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.training.progress import duration_text
from signscope.records import EpochRecord

_Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    tip: str
    text: Callable[[EpochRecord], str]


def _wer(record: EpochRecord) -> str:
    if record.dev is None or math.isnan(record.dev.errors.wer):
        return "–"
    return f"{100 * record.dev.errors.wer:.1f} %"


def _edits(record: EpochRecord) -> str:
    if record.dev is None:
        return "–"
    errors = record.dev.errors
    return f"{errors.substitutions} / {errors.deletions} / {errors.insertions}"


def _blank(record: EpochRecord) -> str:
    return "–" if record.dev is None else f"{100 * record.dev.blank_fraction:.0f} %"


COLUMNS = (
    _Column("Epoch", "Number of the epoch, from 1", lambda r: str(r.epoch)),
    _Column(
        "Loss", "Mean training loss over all batches of the epoch", lambda r: f"{r.avg_loss:.2f}"
    ),
    _Column("WER", "Word error rate on the dev split, by greedy decoding", _wer),
    _Column("S / D / I", "Substitutions, deletions and insertions on the dev split", _edits),
    _Column(
        "Blank",
        "Share of dev frames decoded as blank; near 100 % nothing is recognised whatever the loss says",
        _blank,
    ),
    _Column(
        "Applied",
        "Batches whose gradient changed the weights, of all batches",
        lambda r: f"{r.applied}/{r.batches}",
    ),
    _Column("Clipped", "Applied batches whose gradient was scaled down", lambda r: str(r.clipped)),
    _Column(
        "Non-finite",
        "Batches with a NaN or infinite loss or gradient: never applied",
        lambda r: str(r.non_finite),
    ),
    _Column(
        "Time", "Duration of the epoch, evaluation included", lambda r: duration_text(r.duration_s)
    ),
)


class EpochModel(QAbstractTableModel):
    """The finished epochs of a run, newest last. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[EpochRecord] = []
        self.warning_color = QColor("red")
        """Colour of a non-finite count above 0."""

    def append(self, record: EpochRecord) -> None:
        """Add one finished epoch."""
        row = len(self._rows)
        self.beginInsertRows(QModelIndex(), row, row)
        self._rows.append(record)
        self.endInsertRows()

    def clear(self) -> None:
        """Forget all epochs."""
        self.beginResetModel()
        self._rows.clear()
        self.endResetModel()

    def record(self, row: int) -> EpochRecord:
        """Give the epoch shown in ``row``."""
        return self._rows[row]

    def rowCount(self, parent: _Index | None = None) -> int:
        """Give the number of finished epochs."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: _Index | None = None) -> int:
        """Give the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give a column's title and tooltip."""
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section].title
        if role == Qt.ItemDataRole.ToolTipRole:
            return COLUMNS[section].tip
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give a cell's text, alignment or colour."""
        record = self._rows[index.row()]
        column = COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(record)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ForegroundRole:
            faulty = column.title == "Non-finite" and record.non_finite > 0
            return self.warning_color if faulty else None
        return None


class EpochTable(QWidget):
    """The table of finished epochs, following the newest. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("epoch_table")
        self.model = EpochModel(self)
        self._view = QTableView()
        self._view.setObjectName("epochs")
        self._view.setAccessibleName("Finished epochs")
        self._view.setModel(self.model)
        self._view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._view.setTabKeyNavigation(False)
        self._view.setShowGrid(False)
        self._view.setFrameShape(QFrame.Shape.NoFrame)
        self._view.setWordWrap(False)
        self._view.verticalHeader().hide()
        self._view.verticalHeader().setDefaultSectionSize(24)
        header = self._view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        self._empty = QLabel(
            "Each finished epoch becomes a row here:\nloss, word errors, batches applied."
        )
        self._empty.setProperty("role", "muted")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._empty)
        layout.addWidget(self._view)
        self._view.hide()
        self._follows = True
        self._view.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self._view.verticalScrollBar().rangeChanged.connect(self._on_range_changed)

    def add(self, record: EpochRecord) -> None:
        """Show one more epoch; the newest stays in sight unless the person scrolled away."""
        self.model.append(record)
        self._empty.hide()
        self._view.show()
        if self._follows:
            self._view.scrollToBottom()

    @Slot(int)
    def _on_scrolled(self, value: int) -> None:
        self._follows = value == self._view.verticalScrollBar().maximum()

    @Slot(int, int)
    def _on_range_changed(self, _lowest: int, highest: int) -> None:
        if self._follows:
            self._view.verticalScrollBar().setValue(highest)

    def clear(self) -> None:
        """Empty the table for another run."""
        self.model.clear()
        self._follows = True
        self._view.hide()
        self._empty.show()
