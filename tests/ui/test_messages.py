"""Questions in message boxes: what counts as a yes, and what becomes of one whose window goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QMessageBox, QWidget
from shiboken6 import Shiboken

from app.messages import confirmed
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import press, until


async def answer(parent: QWidget, *, key: Qt.Key | None = None, button: str = "") -> bool:
    """Ask, answer with a key or a button, and give what came of it."""
    asking = asyncio.create_task(
        confirmed(
            parent, name="asked", title="Bin", text="Sure?", detail="Gone.", yes="Bin it", no="Keep"
        )
    )
    await until(lambda: parent.findChild(QMessageBox, "asked"), "the question")
    box = parent.findChild(QMessageBox, "asked")
    assert isinstance(box, QMessageBox)
    if key is not None:
        QTest.keyClick(box, key)
    else:
        await press(box, button)
    agreed = await asking
    await until(lambda: parent.findChild(QMessageBox, "asked") is None, "its end")
    return agreed


@pytest.fixture
def parent(qapp: QApplication) -> Iterator[QWidget]:
    widget = QWidget()
    widget.show()
    yield widget
    widget.close()
    widget.deleteLater()


def test_only_the_button_that_agrees_is_a_yes(parent: QWidget, run_async: RunAsync) -> None:
    async def scenario() -> None:
        assert await answer(parent, button="Bin it")
        assert not await answer(parent, button="Keep")
        assert not await answer(parent, key=Qt.Key.Key_Escape)
        assert not await answer(parent, key=Qt.Key.Key_Return)

    run_async(scenario())


def test_a_question_whose_window_goes_ends_as_a_no(parent: QWidget, run_async: RunAsync) -> None:
    dialog = QDialog(parent)

    async def scenario() -> None:
        dialog.show()
        asking = asyncio.create_task(
            confirmed(dialog, name="asked", title="", text="", detail="", yes="Go", no="Stay")
        )
        await until(lambda: dialog.findChild(QMessageBox, "asked"), "the question")
        Shiboken.delete(dialog)
        assert not await asyncio.wait_for(asking, 10)

    run_async(scenario())
