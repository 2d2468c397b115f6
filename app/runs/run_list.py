"""The list of runs in the browser: how its rows, columns and selection look and behave."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QFrame, QHeaderView, QTableView

from app.runs.run_table import STARTED, RunFilter

_WIDTHS = (
    "replay 2026-11-22 21.40.00 skip:100",
    "Interrupted",
    "demo (synthetic)",
    "Best WER",
    "Held-out WER",
    "50 of 50",
    "Batches",
    "12 h 05 min",
    "Device",
    "2026-11-22 21:40",
)
"""Texts that fit into the columns; the note has the rest."""
_PADDING = 8
_CELLS = f"QTableView::item, QHeaderView::section {{ padding: 0 {_PADDING}px; }}"
"""Keeps a column that ends on the right apart from one that begins on the left."""


class RunList(QTableView):
    """Runs, newest first, any number of which may be chosen. GUI thread only."""

    entered = Signal()
    """Enter was pressed outside a cell that is being edited."""

    def __init__(self, runs: RunFilter) -> None:
        super().__init__()
        self.setObjectName("runs")
        self.setAccessibleName("Runs")
        self.setModel(runs)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setSortingEnabled(True)
        self.sortByColumn(STARTED, Qt.SortOrder.DescendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        # A replay's name ends with its policy: with the middle left out, both ends can be read.
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setStyleSheet(_CELLS)
        self.setAlternatingRowColors(True)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(self.fontMetrics().height() + 12)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        header.setHighlightSections(False)
        for place, text in enumerate(_WIDTHS):
            self.setColumnWidth(
                place, self.fontMetrics().horizontalAdvance(text) + 2 * _PADDING + 8
            )
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Open what is chosen on Enter, as lists of files do."""
        editing = self.state() == QAbstractItemView.State.EditingState
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not editing:
            self.entered.emit()
        else:
            super().keyPressEvent(event)
