"""The dialogs of the Help menu, and where the guide is."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from app.actions import MENUS, TABLE
from app.icons import application_icon
from app.monitor.plot_bar import PLOT_KEYS
from core.paths import corpora_dir, models_dir
from signscope.errors import SignScopeError


def user_guide() -> Path:
    """Give the user guide; docs/ lies beside app/ in a checkout and in the installed program.

    Raises:
        SignScopeError: It is not there.
    """
    path = Path(__file__).resolve().parent.parent / "docs" / "user-guide.md"
    if not path.is_file():
        raise SignScopeError(
            "The user guide is missing from this installation",
            subject=str(path),
            hint="Install SignScope again, or read the guide where the program came from.",
        )
    return path


def version_of(package: str) -> str:
    """Give the installed version of a package without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class ShortcutsDialog(QDialog):
    """Every shortcut, as the table of actions has it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("shortcuts")
        self.setWindowTitle("Keyboard shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        columns = QHBoxLayout()
        columns.setSpacing(36)
        sides = [QGridLayout(), QGridLayout()]
        for side in sides:
            side.setHorizontalSpacing(24)
            side.setVerticalSpacing(5)
            columns.addLayout(side)
        for place, menu in enumerate(MENUS):
            side = sides[0 if place < 2 else 1]
            row = side.rowCount()
            heading = QLabel(menu)
            heading.setProperty("role", "heading")
            heading.setContentsMargins(0, 0 if row == 1 else 12, 0, 2)
            side.addWidget(heading, row, 0, 1, 2)
            for spec in (each for each in TABLE if each.menu == menu):
                row = side.rowCount()
                text = spec.text.replace("&", "").rstrip("…")
                if spec.key == "run.pause":
                    text = "Pause or resume"
                keys = QKeySequence(spec.shortcut).toString(QKeySequence.SequenceFormat.NativeText)
                label = QLabel(keys)
                label.setProperty("role", "muted")
                side.addWidget(QLabel(text), row, 0)
                side.addWidget(label, row, 1, Qt.AlignmentFlag.AlignRight)
        side = QGridLayout()
        side.setHorizontalSpacing(24)
        side.setVerticalSpacing(5)
        heading = QLabel("In a plot that was clicked")
        heading.setProperty("role", "heading")
        side.addWidget(heading, 0, 0, 1, 2)
        for row, (keys, what) in enumerate(PLOT_KEYS, 1):
            label = QLabel(keys)
            label.setProperty("role", "muted")
            side.addWidget(QLabel(what), row, 0)
            side.addWidget(label, row, 1, Qt.AlignmentFlag.AlignRight)
        sides.append(side)
        columns.addLayout(side)
        for side in sides:
            side.setRowStretch(side.rowCount(), 1)
        note = QLabel(
            "In the plots: wheel zooms, dragging pans, double click shows the whole run; "
            "over the left axis they act on its scale."
        )
        note.setProperty("role", "muted")
        note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(14)
        layout.addLayout(columns)
        layout.addWidget(note)
        layout.addWidget(_close_box(self))


class AboutDialog(QDialog):
    """What this is, its versions, and where it keeps files."""

    def __init__(self, runs_dir: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("about")
        self.setWindowTitle("About SignScope")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        mark = QLabel()
        mark.setPixmap(application_icon().pixmap(64, 64))
        title = QLabel(f"SignScope {version_of('signscope')}")
        title.setProperty("role", "heading")
        font = title.font()
        font.setPointSizeF(font.pointSizeF() * 1.35)
        title.setFont(font)
        what = QLabel(
            "Trains a sign-language teacher on landmarks, shows every batch of it, and applies every "
            "finite gradient. Apache License 2.0."
        )
        what.setWordWrap(True)
        head = QHBoxLayout()
        head.setSpacing(16)
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(title)
        words.addWidget(what)
        head.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        head.addLayout(words, 1)
        facts = QGridLayout()
        facts.setHorizontalSpacing(16)
        facts.setVerticalSpacing(4)
        facts.setColumnStretch(1, 1)
        versions = ", ".join(
            f"{name} {version_of(package)}"
            for name, package in (
                ("PySide6", "PySide6-Essentials"),
                ("PyTorch", "torch"),
                ("MediaPipe", "mediapipe"),
            )
        )
        for row, (name, value) in enumerate(
            (
                ("Python", f"{platform.python_version()} on {platform.system()}"),
                ("With", versions),
                ("Runs", str(runs_dir)),
                ("Own corpora", str(corpora_dir())),
                ("Landmark models", str(models_dir())),
            )
        ):
            label = QLabel(name)
            label.setProperty("role", "muted")
            text = QLabel(value)
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            facts.addWidget(label, row, 0)
            facts.addWidget(text, row, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(16)
        layout.addLayout(head)
        layout.addLayout(facts)
        layout.addWidget(_close_box(self))
        self.setMinimumWidth(520)


def _close_box(dialog: QDialog) -> QDialogButtonBox:
    box = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    box.rejected.connect(dialog.reject)
    return box
