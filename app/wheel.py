"""Fields that the mouse wheel changes only after they were clicked or tabbed to; it scrolls past all others.

Qt gives the focus to a spin box or list when the wheel turns over it, and then changes it: who scrolls past a
form would change what lies under the pointer.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox, QWidget


def _may_turn(field: QWidget, event: QWheelEvent) -> bool:
    """Whether the wheel may change ``field``; if not, what lies behind it scrolls."""
    if not field.hasFocus():
        event.ignore()
    return field.hasFocus()


class SpinBox(QSpinBox):
    """A whole number. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Change the number only with the focus."""
        if _may_turn(self, event):
            super().wheelEvent(event)


class DoubleSpinBox(QDoubleSpinBox):
    """A number. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Change the number only with the focus."""
        if _may_turn(self, event):
            super().wheelEvent(event)


class ComboBox(QComboBox):
    """One of several entries. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Choose another entry only with the focus."""
        if _may_turn(self, event):
            super().wheelEvent(event)
