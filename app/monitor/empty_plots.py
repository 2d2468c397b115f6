"""What stands in the place of the plots before the first batch."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget


class EmptyPlots(QWidget):
    """A title and a sentence in the middle of an empty area, and a run that can go on, where there is one."""

    resume_asked = Signal(object)
    """Folder of the run that was offered."""
    open_asked = Signal(object)
    """The same, to be shown only."""

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
        self._offered: Path | None = None
        self._resume = _button("resume_offered", "Resume this run", "primary")
        self._resume.clicked.connect(self._on_resume)
        self._open = _button("open_offered", "Show it", "secondary")
        self._open.clicked.connect(self._on_open)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addStretch(1)
        buttons.addWidget(self._resume)
        buttons.addWidget(self._open)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(40, 40, 40, 40)
        layout.setSpacing(10)
        layout.addStretch(1)
        layout.addWidget(self._title)
        layout.addWidget(self._text)
        layout.addSpacing(6)
        layout.addLayout(buttons)
        layout.addStretch(1)
        self.tell("", "")

    def tell(
        self, title: str, text: str, offered: Path | None = None, *, resumable: bool = False
    ) -> None:
        """Say what to do for curves, and offer the run in the folder ``offered`` to be shown or gone on with."""
        self._title.setText(title)
        self._text.setText(text)
        self._offered = offered
        self._resume.setVisible(offered is not None and resumable)
        self._open.setVisible(offered is not None)

    @Slot()
    def _on_resume(self) -> None:
        self.resume_asked.emit(self._offered)

    @Slot()
    def _on_open(self) -> None:
        self.open_asked.emit(self._offered)


def _button(name: str, text: str, role: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setProperty("role", role)
    button.setAutoDefault(True)
    return button
