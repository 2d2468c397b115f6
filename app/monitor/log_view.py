"""The text of a run as it happens, bounded, and honest about what it could not show."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from PySide6.QtCore import Slot
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QVBoxLayout, QWidget

KEPT_LINES = 5000
"""Lines that stay readable; older ones are in the run folder's log."""
LINES_PER_FLUSH = 200
"""Most lines added at once; at full speed more would hold up the window for no reader's good."""


class LogView(QWidget):
    """Lines wait in ``add`` until ``flush`` shows them in one go. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("log_view")
        self._waiting: deque[str] = deque(maxlen=LINES_PER_FLUSH)
        self._left_out = 0
        self.dropped = 0
        """Lines that were never shown since the last clear."""
        self._text = QPlainTextEdit()
        self._text.setObjectName("log")
        self._text.setAccessibleName("Log of the run")
        self._text.setReadOnly(True)
        self._text.setFrameShape(QFrame.Shape.NoFrame)
        self._text.setUndoRedoEnabled(False)
        self._text.setTabChangesFocus(True)
        self._text.setMaximumBlockCount(KEPT_LINES)
        self._text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._text.setPlaceholderText(
            "Every batch is told here: its loss, its gradient norm before and after clipping."
        )
        # Kept apart from the bar's position: a view that becomes less high is no longer at its end.
        self._follows = True
        self._text.verticalScrollBar().valueChanged.connect(self._on_scrolled)
        self._text.verticalScrollBar().rangeChanged.connect(self._on_range_changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)

    def add(self, lines: Sequence[str]) -> None:
        """Queue lines; when more come between two flushes than are shown, the oldest are counted out."""
        for line in lines:
            if len(self._waiting) == LINES_PER_FLUSH:
                self._left_out += 1
            self._waiting.append(line)

    def lost(self, count: int) -> None:
        """Tell that ``count`` records never reached the window."""
        self._left_out += count

    def flush(self) -> None:
        """Show what waits, following the end unless the person scrolled up."""
        if not self._waiting and not self._left_out:
            return
        lines = list(self._waiting)
        self._waiting.clear()
        if self._left_out:
            self.dropped += self._left_out
            lines.insert(
                0,
                f"… {self._left_out} lines not shown, too fast to read; "
                "all are in the run folder's log and ledger",
            )
            self._left_out = 0
        bar = self._text.verticalScrollBar()
        follows, position = self._follows, bar.value()
        self._text.appendPlainText("\n".join(lines))
        bar.setValue(bar.maximum() if follows else position)

    @Slot(int)
    def _on_scrolled(self, value: int) -> None:
        self._follows = value >= self._text.verticalScrollBar().maximum() - 1

    @Slot(int, int)
    def _on_range_changed(self, _lowest: int, highest: int) -> None:
        if self._follows:
            self._text.verticalScrollBar().setValue(highest)

    def clear(self) -> None:
        """Empty the log for another run."""
        self._waiting.clear()
        self._left_out = self.dropped = 0
        self._text.clear()
        self._follows = True

    def text(self) -> str:
        """Give everything that is readable now."""
        return self._text.toPlainText()
