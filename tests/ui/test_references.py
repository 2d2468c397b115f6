"""PySide6 6.12.0 loses references to None, True and False on Python 3.10 and 3.11 and aborts within seconds.

The version is bounded in pyproject.toml; this test notices when a new one brings the fault back.
"""

from __future__ import annotations

import sys

import PySide6
import pytest
from PySide6.QtCore import QEvent, QObject, Signal, Slot
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

ROUNDS = 5000


class Busy(QWidget):
    """Hands the three objects over the border in every way that the window does."""

    sent = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.sent.connect(self.take)

    @Slot(object)
    def take(self, value: object) -> None:
        self.setProperty("value", value)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        return event.type() == QEvent.Type.User

    def paintEvent(self, event: QPaintEvent) -> None:
        return None


def counts() -> dict[str, int]:
    return {repr(each): sys.getrefcount(each) for each in (None, True, False)}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="these objects are immortal from 3.12 on")
def test_no_reference_is_lost(qtbot: QtBot) -> None:
    widget = Busy()
    qtbot.addWidget(widget)
    widget.installEventFilter(widget)
    widget.show()
    before = counts()
    for _ in range(ROUNDS):
        for value in (None, True, False):
            widget.sent.emit(value)
            assert widget.property("value") == value
        QApplication.sendEvent(widget, QEvent(QEvent.Type.User))
        QApplication.sendEvent(widget, QEvent(QEvent.Type.LayoutRequest))
        widget.isVisible()
        widget.repaint()
        widget.parentWidget()
    after = counts()
    for name, count in before.items():
        assert abs(after[name] - count) < ROUNDS / 10, (name, PySide6.__version__)
