"""What the window remembers, and that nothing remembered can keep it from starting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray, QSettings
from PySide6.QtWidgets import QApplication

from app.settings import SETTINGS_VARIABLE, WindowSettings
from app.theme import ThemeChoice
from core.config import OptimConfig, RunConfig

pytestmark = pytest.mark.usefixtures("qapp")


def test_everything_is_remembered(tmp_path: Path) -> None:
    config = RunConfig(name="öäü, 手", optim=OptimConfig(lr=3.25e-4))
    first = WindowSettings()
    first.theme = ThemeChoice.DARK
    first.geometry = QByteArray(b"\x00geometry\xff")
    first.dock_state = QByteArray(b"docks")
    first.show_all_settings = True
    first.config = config
    first.last_folder = tmp_path
    first.recent_corpora = (str(tmp_path / "a b"), "c,d")
    first.camera_source = "2"
    first.sync()
    again = WindowSettings()
    assert again.theme is ThemeChoice.DARK
    assert again.geometry == QByteArray(b"\x00geometry\xff")
    assert again.dock_state == QByteArray(b"docks")
    assert again.show_all_settings
    assert again.config == config
    assert again.last_folder == tmp_path
    assert again.recent_corpora == (str(tmp_path / "a b"), "c,d")
    assert again.camera_source == "2"


def test_a_broken_file_gives_the_defaults() -> None:
    keys = ("window/theme", "window/geometry", "window/docks", "run/config", "window/last_folder")
    store = QSettings(os.environ[SETTINGS_VARIABLE], QSettings.Format.IniFormat)
    for key in keys:
        store.setValue(key, ["no", "such", "value"])
    store.setValue("run/config", "optim = 3\n[[[")
    store.sync()
    settings = WindowSettings()
    assert settings.theme is ThemeChoice.SYSTEM
    assert settings.geometry.isEmpty()
    assert settings.dock_state.isEmpty()
    assert settings.config == RunConfig()
    assert settings.last_folder == Path.home()


def test_settings_of_another_version_give_the_defaults() -> None:
    settings = WindowSettings()
    settings.sync()
    store = QSettings(os.environ[SETTINGS_VARIABLE], QSettings.Format.IniFormat)
    store.setValue("run/config", "[optim]\nno_such_setting = 1\n")
    store.sync()
    assert WindowSettings().config == RunConfig()
    assert QApplication.instance() is not None
