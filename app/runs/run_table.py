"""The runs of a folder as a table model that can be sorted and filtered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor

from app.theme import Colors
from app.training.progress import duration_text
from core.analysis.catalogue import RunSummary

_Index = QModelIndex | QPersistentModelIndex

SORT_ROLE = Qt.ItemDataRole.UserRole
PATH_ROLE = Qt.ItemDataRole.UserRole + 1


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    tip: str
    text: Callable[[RunSummary], str]
    key: Callable[[RunSummary], Any]
    right: bool = False


def percent(share: float | None) -> str:
    """Give a share as a person reads it; a dash for what was not measured."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def thousands(number: int) -> str:
    """Give a whole number with thin spaces between its thousands."""
    return f"{number:,}".replace(",", "\u2009")


def _corpus(run: RunSummary) -> str:
    return f"{run.corpus} (synthetic)" if run.synthetic else run.corpus or "–"


def _epochs(run: RunSummary) -> str:
    return f"{run.epochs} of {run.total_epochs}" if run.readable else "–"


def _started(run: RunSummary) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created)) if run.created else "–"


def _least(value: float | None) -> float:
    return math.inf if value is None else value


COLUMNS = (
    _Column(
        "Name",
        "Name of the run; F2 changes it, its folder keeps its own",
        lambda r: r.name,
        lambda r: r.name.casefold(),
    ),
    _Column(
        "State",
        "Interrupted: it was training when its program ended; it can be resumed",
        lambda r: r.state.capitalize(),
        lambda r: r.state,
    ),
    _Column("Corpus", "Corpus that it was trained on", _corpus, lambda r: _corpus(r).casefold()),
    _Column(
        "Best WER",
        "Lowest word error rate on the dev split",
        lambda r: percent(r.best_wer),
        lambda r: _least(r.best_wer),
        right=True,
    ),
    _Column(
        "Held-out WER",
        "Word error rate on the test signers",
        lambda r: percent(r.test_wer),
        lambda r: _least(r.test_wer),
        right=True,
    ),
    _Column("Epochs", "Finished epochs of those planned", _epochs, lambda r: r.epochs, right=True),
    _Column(
        "Batches",
        "Finished batches, applied or not",
        lambda r: thousands(r.batches) if r.readable else "–",
        lambda r: r.batches,
        right=True,
    ),
    _Column(
        "Duration",
        "Time spent training, pauses not counted",
        lambda r: duration_text(r.duration_s) if r.duration_s else "–",
        lambda r: r.duration_s,
        right=True,
    ),
    _Column("Device", "Where it was computed", lambda r: r.device or "–", lambda r: r.device),
    _Column("Started", "When the run was made", _started, lambda r: r.created),
    _Column(
        "Note", "Your own words; Ctrl+N changes them", lambda r: r.note, lambda r: r.note.casefold()
    ),
)
NAME, STATE, NOTE, STARTED = 0, 1, len(COLUMNS) - 1, len(COLUMNS) - 2
ACTIVE_STATES = ("running", "pausing", "paused", "stopping")


class RunTableModel(QAbstractTableModel):
    """The runs as they were read last. Name and note can be edited; the edit is only asked for."""

    renamed = Signal(object, str)
    """Path of a run, and the name that the person typed."""
    noted = Signal(object, str)
    """Path of a run, and the note that the person typed."""

    def __init__(self, colors: Colors) -> None:
        super().__init__()
        self._runs: list[RunSummary] = []
        self._colors = colors

    def set_runs(self, runs: Sequence[RunSummary]) -> None:
        """Show these runs; rows of runs known before stay the same rows, so a selection stays."""
        new = {run.path: run for run in runs}
        for row in reversed(range(len(self._runs))):
            if self._runs[row].path not in new:
                self.beginRemoveRows(QModelIndex(), row, row)
                del self._runs[row]
                self.endRemoveRows()
        for row, old in enumerate(self._runs):
            run = new.pop(old.path)
            if run != old:
                self._runs[row] = run
                self._tell_changed(row)
        if new:
            first = len(self._runs)
            self.beginInsertRows(QModelIndex(), first, first + len(new) - 1)
            self._runs.extend(new.values())
            self.endInsertRows()

    def recolor(self, colors: Colors) -> None:
        """Take the colours of another theme."""
        self._colors = colors
        if self._runs:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._runs) - 1, NOTE))

    def run(self, index: _Index) -> RunSummary:
        """Give the run of a row."""
        return self._runs[index.row()]

    def rowCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        """Give the number of runs."""
        return 0 if parent.isValid() else len(self._runs)

    def columnCount(self, parent: _Index = QModelIndex()) -> int:  # noqa: B008
        """Give the number of columns."""
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Give titles, their tips and their alignment."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        column = COLUMNS[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return column.tip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _side(column)
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Give what a cell shows."""
        run, column = self._runs[index.row()], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(run)
        if role == Qt.ItemDataRole.EditRole:
            return run.note if index.column() == NOTE else run.name
        if role == SORT_ROLE:
            return column.key(run)
        if role == PATH_ROLE:
            return run.path
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _side(column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return run.problem or (str(run.path) if index.column() == NAME else column.text(run))
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == STATE:
            return QColor(self._state_color(run.state))
        return None

    def flags(self, index: _Index) -> Qt.ItemFlag:
        """Let name and note of a readable run be edited."""
        flags = super().flags(index)
        if index.column() in (NAME, NOTE) and self._runs[index.row()].readable:
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def setData(self, index: _Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Show what the person typed at once, and ask for it to be written."""
        run, text = self._runs[index.row()], str(value).strip()
        if role != Qt.ItemDataRole.EditRole or not run.readable:
            return False
        if index.column() == NOTE and text != run.note:
            self._runs[index.row()] = replace(run, note=text)
            self.noted.emit(run.path, text)
        elif index.column() == NAME and text and text != run.name:
            self._runs[index.row()] = replace(run, name=text)
            self.renamed.emit(run.path, text)
        else:
            return False
        self._tell_changed(index.row())
        return True

    def _tell_changed(self, row: int) -> None:
        self.dataChanged.emit(self.index(row, 0), self.index(row, NOTE))

    def _state_color(self, state: str) -> str:
        if state in ACTIVE_STATES:
            return self._colors.accent
        if state in ("failed", "unreadable"):
            return self._colors.error
        if state == "interrupted":
            return self._colors.warning
        return self._colors.success if state == "finished" else self._colors.text


class RunFilter(QSortFilterProxyModel):
    """Shows the runs that hold every word typed, in any column."""

    def __init__(self, source: RunTableModel) -> None:
        super().__init__()
        self._words: tuple[str, ...] = ()
        self.setSortRole(SORT_ROLE)
        self.setSourceModel(source)

    def set_text(self, text: str) -> None:
        """Show only runs that hold all words of ``text``; upper and lower case are the same."""
        self._words = tuple(text.casefold().split())
        self.invalidate()

    def filterAcceptsRow(self, row: int, parent: _Index) -> bool:
        """Say whether a run is shown."""
        model = self.sourceModel()
        assert isinstance(model, RunTableModel)
        run = model.run(model.index(row, 0, parent))
        text = "\n".join(column.text(run) for column in COLUMNS).casefold()
        return all(word in text for word in self._words)

    def path(self, index: _Index) -> Path:
        """Give the folder of the run in a row of this model."""
        path = self.data(self.index(index.row(), 0), PATH_ROLE)
        assert isinstance(path, Path)
        return path


def _side(column: _Column) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column.right else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter
