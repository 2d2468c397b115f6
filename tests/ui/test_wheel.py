"""Turning the wheel over a field scrolls; only a field that was clicked or tabbed to is changed by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QScrollArea,
    QScrollBar,
    QSpinBox,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.camera.source_picker import SourcePicker
from app.corpus.import_dialog import ImportDialog
from app.main_window import MainWindow
from app.runs.export_dialog import ExportDialog
from app.theme import LIGHT
from app.training.setting_editors import setting_fields
from tests.ui.conftest import MakeWindow, setting
from tests.ui.made_runs import MadeJob
from tests.ui.run_folders import make_run


def turn(widget: QWidget) -> None:
    """Turn the wheel over a widget as a mouse does: Qt itself decides who gets the event and the focus."""
    window = widget.window().windowHandle()
    place = widget.mapTo(widget.window(), widget.rect().center())
    QTest.wheelEvent(window, QPointF(place), QPoint(0, -120))


def turned_by_wheel(root: QWidget) -> list[QWidget]:
    """Give every field within ``root`` whose value the wheel would change."""
    kinds = (QAbstractSpinBox, QComboBox, QAbstractSlider)
    found = [each for each in root.findChildren(QWidget) if isinstance(each, kinds)]
    return [each for each in found if not isinstance(each, QScrollBar)]


def value_of(field: QWidget) -> object:
    if isinstance(field, QComboBox):
        return field.currentIndex()
    return field.property("value")


def test_the_wheel_over_a_setting_scrolls_the_form(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window(MadeJob())
    with qtbot.waitActive(window):
        window.activateWindow()
    window.panel.form.show_all(True)
    scroll = window.panel.findChild(QScrollArea, "run_inputs")
    assert scroll is not None
    before = window.panel.form.values()
    bar = scroll.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    for name, _ in setting_fields():
        if name == "data.corpus":
            continue
        field = setting(window.panel.form, name)
        scroll.ensureWidgetVisible(field)
        QGuiApplication.processEvents()
        bar.setValue(min(bar.value(), bar.maximum() - 1))
        place = bar.value()
        turn(field)
        assert not field.hasFocus(), name
        assert bar.value() > place, f"{name} kept the wheel from the form"
    assert window.panel.form.values() == before


def test_the_wheel_changes_the_setting_that_was_clicked(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    window = make_window(MadeJob())
    with qtbot.waitActive(window):
        window.activateWindow()
    epochs = setting(window.panel.form, "optim.epochs")
    assert isinstance(epochs, QSpinBox)
    QTest.mouseClick(epochs.lineEdit(), Qt.MouseButton.LeftButton)
    assert epochs.hasFocus()
    before = epochs.value()
    turn(epochs)
    assert epochs.value() < before


def windows(window: MainWindow, folder: Path, name: str) -> QWidget:
    """Give the window or dialog of this name, shown."""
    if name == "main window":
        return window
    if name == "import":
        dialog: QDialog = ImportDialog(folder, window)
        dialog.show()
        return dialog
    if name == "camera":
        dialog = QDialog(window)
        picker = SourcePicker(parent=dialog)
        picker.addItems(["another", "and another"])
        dialog.show()
        return dialog
    run = make_run(folder / "runs", "a run")
    if name == "comparison":
        return window.runs.compare()
    if name == "replay":
        return window.runs.replay()
    dialog = ExportDialog(run, "a run", LIGHT, run, None, window)
    dialog.show()
    return dialog


@pytest.mark.parametrize(
    "name", ["main window", "import", "comparison", "replay", "export", "camera"]
)
def test_no_field_of_any_window_is_changed_by_a_wheel_that_passes(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path, name: str
) -> None:
    window = make_window(MadeJob(), folder=tmp_path / "runs")
    shown = windows(window, tmp_path, name)
    with qtbot.waitActive(shown):
        shown.activateWindow()
    fields = turned_by_wheel(shown)
    assert fields, "a window without fields would prove nothing"
    for field in fields:
        assert field.focusPolicy() is Qt.FocusPolicy.StrongFocus, field.objectName()
        if not field.isVisible() or not field.isEnabled():
            continue
        shown.setFocus()
        before = value_of(field)
        turn(field)
        assert value_of(field) == before, field.objectName()
