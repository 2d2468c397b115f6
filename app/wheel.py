"""The mouse wheel changes what has the focus, and scrolls everything else."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QAbstractSlider, QAbstractSpinBox, QComboBox, QScrollBar, QWidget

Turned = QAbstractSpinBox | QComboBox | QAbstractSlider


class _WheelNeedsFocus(QObject):
    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is not QEvent.Type.Wheel:
            return False
        if isinstance(watched, QWidget) and watched.hasFocus():
            return False
        event.ignore()  # what lies behind scrolls instead
        return True


def turned_by_wheel(root: QWidget) -> list[QWidget]:
    """Give every field within ``root``, itself included, whose value the wheel would change."""
    found = [root, *root.findChildren(QWidget)]
    return [each for each in found if isinstance(each, Turned) and not isinstance(each, QScrollBar)]


def hold_wheel(root: QWidget) -> None:
    """Let the wheel change a field within ``root`` only after it was clicked or tabbed to. GUI thread only.

    Qt gives the focus to a spin box, list or slider when the wheel turns over it, and then changes it: who
    scrolls past a form would change what lies under the pointer. Call it when all fields are made.
    """
    needs_focus = _WheelNeedsFocus(root)
    for field in turned_by_wheel(root):
        field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        field.installEventFilter(needs_focus)
