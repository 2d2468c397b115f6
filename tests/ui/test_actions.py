"""The table of actions: complete, without collisions, and enabled by the state of the run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu
from pytestqt.qtbot import QtBot

from app.actions import TABLE, Actions
from app.theme import LIGHT
from signscope.run_state import RunEvent, RunSnapshot, RunState
from tests.ui.conftest import MakeWindow


@pytest.fixture
def actions(qtbot: QtBot) -> Iterator[Actions]:
    owner = QMainWindow()
    qtbot.addWidget(owner)
    yield Actions(owner, LIGHT)


def test_every_action_has_a_shortcut_of_its_own() -> None:
    shortcuts = Counter(QKeySequence(spec.shortcut).toString() for spec in TABLE)
    assert "" not in shortcuts
    assert [keys for keys, count in shortcuts.items() if count > 1] == []


def test_every_action_is_complete(actions: Actions) -> None:
    for spec in TABLE:
        action = actions[spec.key]
        assert not action.icon().isNull(), spec.key
        assert spec.tip in action.toolTip(), spec.key
        assert action.shortcut().toString() in action.toolTip() or spec.shortcut == "Space"


def test_every_action_stands_in_the_menu_of_the_window(make_window: MakeWindow) -> None:
    window = make_window()
    listed: list[QAction] = []
    for menu in window.menuBar().findChildren(QMenu):
        listed += menu.actions()
    for spec in TABLE:
        assert window.actions_[spec.key] in listed, spec.key


@pytest.mark.parametrize("state", RunState)
def test_the_state_alone_enables_run_actions(actions: Actions, state: RunState) -> None:
    snapshot = RunSnapshot(state)
    actions.show_state(snapshot)
    assert actions["run.start"].isEnabled() == snapshot.allows(RunEvent.START)
    assert actions["run.stop"].isEnabled() == snapshot.allows(RunEvent.STOP)
    resumes = snapshot.allows(RunEvent.RESUME)
    assert actions["run.pause"].isEnabled() == (resumes or snapshot.allows(RunEvent.PAUSE))
    assert actions["run.pause"].text() == ("&Resume" if resumes else "&Pause")
