"""The user guide opens in the program: its text, its pictures, its other page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QImage, QTextDocument
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

import app.help
from app.guide import GuideWindow
from app.help import user_guide
from signscope.errors import SignScopeError
from tests.ui.conftest import MakeWindow


@pytest.fixture
def guide(qtbot: QtBot) -> Iterator[GuideWindow]:
    window = GuideWindow(user_guide())
    with qtbot.waitExposed(window):
        window.show()
    yield window
    window.close()


def test_f1_shows_the_guide_within_the_program(qtbot: QtBot, make_window: MakeWindow) -> None:
    window = make_window()
    window.actions_["help.docs"].trigger()
    guide = window.findChild(GuideWindow)
    assert isinstance(guide, GuideWindow)
    assert guide.isVisible()
    assert "How to read the curves" in guide.pages.toPlainText()
    guide.close()


def test_pictures_of_the_guide_fit_its_window(guide: GuideWindow) -> None:
    for width in (500, 900):
        guide.resize(width, 600)
        image = guide.pages.document().resource(
            QTextDocument.ResourceType.ImageResource.value, QUrl("images/window.png")
        )
        assert isinstance(image, QImage)
        assert not image.isNull()
        shown = image.width() / image.devicePixelRatio()
        assert 0.8 * guide.pages.viewport().width() < shown < guide.pages.viewport().width()
        assert not guide.pages.horizontalScrollBar().isVisible()


def test_a_link_leads_to_the_settings_and_back(guide: GuideWindow) -> None:
    back = guide.findChild(QPushButton, "guide_back")
    assert isinstance(back, QPushButton)
    assert not back.isEnabled()
    guide.pages.setSource(QUrl("settings.md"))
    assert "Settings of a run" in guide.pages.toPlainText()
    back.click()
    assert "How to read the curves" in guide.pages.toPlainText()


def test_a_guide_that_is_missing_is_told(
    make_window: MakeWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app.help, "__file__", str(tmp_path / "app" / "help.py"))
    with pytest.raises(SignScopeError, match="missing"):
        user_guide()
    window = make_window()
    window.actions_["help.docs"].trigger()
    assert "user guide is missing" in window.messages.text()
