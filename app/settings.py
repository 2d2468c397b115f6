"""What the window remembers between starts: a typed face of QSettings.

A value that is missing, of another type or unreadable gives the default: a broken settings file
never blocks the start.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings

from app.theme import ThemeChoice
from core.config import RunConfig, config_from_dict, config_to_toml
from core.errors import ConfigError

SETTINGS_VARIABLE = "SIGNSCOPE_SETTINGS"
"""Names another settings file than the user's own: for tests and screenshots."""


class WindowSettings:
    """Remembered choices; every property may be read and set. GUI thread only."""

    def __init__(self) -> None:
        chosen = os.environ.get(SETTINGS_VARIABLE)
        if chosen:
            self._store = QSettings(chosen, QSettings.Format.IniFormat)
        else:
            self._store = QSettings(
                QSettings.Format.IniFormat, QSettings.Scope.UserScope, "SignScope", "SignScope"
            )

    def sync(self) -> None:
        """Write everything to disk now."""
        self._store.sync()

    @property
    def theme(self) -> ThemeChoice:
        """Light, dark, or as the system says."""
        try:
            return ThemeChoice(self._text("window/theme"))
        except ValueError:
            return ThemeChoice.SYSTEM

    @theme.setter
    def theme(self, value: ThemeChoice) -> None:
        self._store.setValue("window/theme", value.value)

    @property
    def geometry(self) -> QByteArray:
        """Place and size of the window, empty on the first start."""
        return self._bytes("window/geometry")

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._store.setValue("window/geometry", value)

    @property
    def dock_state(self) -> QByteArray:
        """Arrangement of the docks, empty on the first start."""
        return self._bytes("window/docks")

    @dock_state.setter
    def dock_state(self, value: QByteArray) -> None:
        self._store.setValue("window/docks", value)

    @property
    def show_all_settings(self) -> bool:
        """Whether the run panel shows every setting or the main ones."""
        return self._text("window/show_all_settings") == "true"

    @show_all_settings.setter
    def show_all_settings(self, value: bool) -> None:
        self._store.setValue("window/show_all_settings", "true" if value else "false")

    @property
    def config(self) -> RunConfig:
        """The settings of a run as they stood last, or the defaults."""
        try:
            return config_from_dict(tomllib.loads(self._text("run/config")))
        except (ConfigError, tomllib.TOMLDecodeError):
            return RunConfig()

    @config.setter
    def config(self, value: RunConfig) -> None:
        self._store.setValue("run/config", config_to_toml(value))

    @property
    def last_folder(self) -> Path:
        """Folder that the next file dialog starts in."""
        text = self._text("window/last_folder")
        return Path(text) if text and Path(text).is_dir() else Path.home()

    @last_folder.setter
    def last_folder(self, value: Path) -> None:
        self._store.setValue("window/last_folder", str(value))

    @property
    def recent_corpora(self) -> tuple[str, ...]:
        """Corpus folders opened before, newest first, at most eight."""
        return tuple(line for line in self._text("run/recent_corpora").split("\n") if line)[:8]

    @recent_corpora.setter
    def recent_corpora(self, value: tuple[str, ...]) -> None:
        self._store.setValue("run/recent_corpora", "\n".join(value[:8]))

    @property
    def camera_source(self) -> str:
        """Camera number or path that the preview used last; empty for none."""
        return self._text("camera/source")

    @camera_source.setter
    def camera_source(self, value: str) -> None:
        self._store.setValue("camera/source", value)

    def _text(self, key: str) -> str:
        value = self._store.value(key, "")
        return value if isinstance(value, str) else ""

    def _bytes(self, key: str) -> QByteArray:
        value = self._store.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()
