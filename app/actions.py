"""Everything that a person can do, in one table: key, text, shortcut, icon and the run event it sends.

Menus, buttons and the list of keyboard shortcuts are made of this table. A row with a run event is
enabled exactly when the state of the run allows that event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from app.icons import icon
from app.theme import Colors, ThemeChoice
from signscope.run_state import RunEvent, RunSnapshot


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One row of the table."""

    key: str
    menu: str
    text: str
    shortcut: str
    icon: str
    tip: str
    event: RunEvent | None = None
    checkable: bool = False
    group: str = ""  # checkable actions of one group exclude each other
    separator: bool = False  # a line above it in its menu


MENUS = ("File", "Run", "Runs", "View", "Help")
"""Menus from left to right."""

TABLE: tuple[ActionSpec, ...] = (
    ActionSpec(
        "corpus.open",
        "File",
        "&Open corpus…",
        "Ctrl+O",
        "open",
        "Train on a corpus folder made by an import",
    ),
    ActionSpec(
        "corpus.demo",
        "File",
        "Use &demo corpus",
        "Ctrl+D",
        "demo",
        "Train on the built-in synthetic corpus",
    ),
    ActionSpec(
        "corpus.import",
        "File",
        "&Import MP_Data…",
        "Ctrl+I",
        "import",
        "Make a corpus of a folder of landmark files (label / sequence / frame.npy)",
    ),
    ActionSpec(
        "settings.load",
        "File",
        "&Load settings…",
        "Ctrl+L",
        "load",
        "Read the settings of a run from a TOML file",
        separator=True,
    ),
    ActionSpec(
        "settings.save",
        "File",
        "&Save settings…",
        "Ctrl+S",
        "save",
        "Write the settings shown in the run panel to a TOML file",
    ),
    ActionSpec(
        "settings.defaults",
        "File",
        "&Reset settings",
        "Ctrl+Shift+R",
        "defaults",
        "Put every setting except the corpus back to its default",
    ),
    ActionSpec(
        "run.export",
        "File",
        "&Export…",
        "Ctrl+Shift+E",
        "export",
        "Write the plots, the ledger or a report of the run shown",
        separator=True,
    ),
    ActionSpec(
        "runs.folder",
        "File",
        "Show run &folders",
        "Ctrl+Shift+O",
        "runs",
        "Open the folder that holds all runs in the file manager",
    ),
    ActionSpec(
        "window.quit",
        "File",
        "&Quit",
        "Ctrl+Q",
        "quit",
        "Leave SignScope; a run in progress is saved first",
        separator=True,
    ),
    ActionSpec(
        "run.start",
        "Run",
        "&Start",
        "F5",
        "start",
        "Start training with the settings shown",
        event=RunEvent.START,
    ),
    ActionSpec(
        "run.pause",
        "Run",
        "&Pause",
        "Space",
        "pause",
        "Rest after the current batch; press again to go on",
    ),
    ActionSpec(
        "run.stop",
        "Run",
        "S&top",
        "Shift+F5",
        "stop",
        "Save a checkpoint after the current batch and end the run",
        event=RunEvent.STOP,
    ),
    ActionSpec(
        "runs.browse",
        "Runs",
        "&Browse runs…",
        "Ctrl+B",
        "browse",
        "List every run: open, resume, rename, note, throw away",
    ),
    ActionSpec(
        "runs.compare",
        "Runs",
        "&Compare…",
        "Ctrl+M",
        "compare",
        "Draw runs over each other, with their figures and settings side by side",
    ),
    ActionSpec(
        "runs.replay",
        "Runs",
        "&Replay policies…",
        "Ctrl+R",
        "replay",
        "Train on the same batches with clipping and with skipping, and see the difference",
        separator=True,
    ),
    ActionSpec(
        "plot.follow",
        "View",
        "Follow &newest batch",
        "Ctrl+E",
        "follow",
        "Keep the newest batch in sight",
        checkable=True,
    ),
    ActionSpec(
        "plot.fit",
        "View",
        "&Fit whole run",
        "Ctrl+0",
        "fit",
        "Show every batch from the first to the newest (double click in a plot)",
    ),
    ActionSpec(
        "dock.run",
        "View",
        "Run panel",
        "Ctrl+1",
        "panel",
        "Show or hide the run panel",
        checkable=True,
        separator=True,
    ),
    ActionSpec(
        "dock.camera",
        "View",
        "Camera",
        "Ctrl+2",
        "camera",
        "Show or hide the camera preview",
        checkable=True,
    ),
    ActionSpec("dock.log", "View", "Log", "Ctrl+3", "log", "Show or hide the log", checkable=True),
    ActionSpec(
        "dock.epochs",
        "View",
        "Epochs",
        "Ctrl+4",
        "table",
        "Show or hide the epoch table",
        checkable=True,
    ),
    ActionSpec(
        "dock.health",
        "View",
        "Health",
        "Ctrl+5",
        "health",
        "Show or hide what to look at in the run",
        checkable=True,
    ),
    ActionSpec(
        "view.reset",
        "View",
        "&Reset layout",
        "Ctrl+Shift+0",
        "layout",
        "Put every panel back to its first place",
    ),
    ActionSpec(
        "theme.system",
        "View",
        "Theme of the &system",
        "Ctrl+Alt+S",
        "theme-system",
        "Light or dark as the desktop says",
        checkable=True,
        group="theme",
        separator=True,
    ),
    ActionSpec(
        "theme.light",
        "View",
        "&Light theme",
        "Ctrl+Alt+L",
        "theme-light",
        "Dark text on a light window",
        checkable=True,
        group="theme",
    ),
    ActionSpec(
        "theme.dark",
        "View",
        "&Dark theme",
        "Ctrl+Alt+D",
        "theme-dark",
        "Light text on a dark window",
        checkable=True,
        group="theme",
    ),
    ActionSpec("help.docs", "Help", "&User guide", "F1", "docs", "Show the user guide"),
    ActionSpec(
        "help.shortcuts",
        "Help",
        "&Keyboard shortcuts",
        "Ctrl+/",
        "keyboard",
        "List every keyboard shortcut",
    ),
    ActionSpec(
        "help.about",
        "Help",
        "&About SignScope",
        "Shift+F1",
        "info",
        "Versions, licence and where files are kept",
        separator=True,
    ),
)
"""Every action of the window, in the order of its menu."""

THEME_ACTIONS = {choice: f"theme.{choice.value}" for choice in ThemeChoice}


class Actions:
    """The QActions made of the table. GUI thread only.

    Args:
        parent: The window; actions added to it work wherever the focus is.
        colors: For the icons; ``recolor`` changes them.
    """

    def __init__(self, parent: QObject, colors: Colors) -> None:
        self._colors = colors
        self._pausing_resumes = False
        self._actions: dict[str, QAction] = {}
        groups: dict[str, QActionGroup] = {}
        for spec in TABLE:
            action = QAction(spec.text, parent)
            action.setObjectName(spec.key)
            action.setShortcut(QKeySequence(spec.shortcut))
            action.setCheckable(spec.checkable)
            plain = spec.text.replace("&", "").rstrip("…")
            native = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{plain} ({native})\n{spec.tip}")
            action.setStatusTip(spec.tip)
            if spec.group:
                group = groups.setdefault(spec.group, QActionGroup(parent))
                group.addAction(action)
            self._actions[spec.key] = action
        self.recolor(colors)

    def __getitem__(self, key: str) -> QAction:
        return self._actions[key]

    def __iter__(self) -> Iterator[QAction]:
        return iter(self._actions.values())

    def recolor(self, colors: Colors) -> None:
        """Draw all icons anew for another theme."""
        self._colors = colors
        for spec in TABLE:
            self._actions[spec.key].setIcon(icon(spec.icon, colors.text, colors.disabled))
        self._show_pause()

    def show_state(self, snapshot: RunSnapshot) -> None:
        """Enable what the state of the run allows; Pause becomes Resume where only that is allowed."""
        for spec in TABLE:
            if spec.event is not None:
                self._actions[spec.key].setEnabled(snapshot.allows(spec.event))
        self._pausing_resumes = snapshot.allows(RunEvent.RESUME)
        self._actions["run.pause"].setEnabled(
            self._pausing_resumes or snapshot.allows(RunEvent.PAUSE)
        )
        self._show_pause()

    def _show_pause(self) -> None:
        action = self._actions["run.pause"]
        name = "resume" if self._pausing_resumes else "pause"
        action.setText("&Resume" if self._pausing_resumes else "&Pause")
        action.setIcon(icon(name, self._colors.text, self._colors.disabled))
