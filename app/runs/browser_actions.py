"""What can be done with runs in the browser: one table of texts, shortcuts and tips."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrowserAction:
    """One action of the browser."""

    key: str
    text: str
    shortcut: str
    tip: str


ACTIONS = (
    BrowserAction("open", "&Open curves", "Ctrl+Return", "Show the run in the window"),
    BrowserAction("compare", "&Compare", "Ctrl+M", "Draw the chosen runs over each other"),
    BrowserAction("resume", "&Resume", "Ctrl+R", "Go on training from the newest checkpoint"),
    BrowserAction("export", "&Export…", "Ctrl+E", "Write pictures, tables or a report of the run"),
    BrowserAction("rename", "Re&name", "F2", "Change the name; the folder keeps its own"),
    BrowserAction("note", "Edit &note", "Ctrl+N", "Write something about the run"),
    BrowserAction("folder", "Open &folder", "Ctrl+O", "Show the run's files in the file manager"),
    BrowserAction("delete", "Move to &bin", "Delete", "Move the run's folder into the bin"),
)
NEEDS_READABLE = ("open", "compare", "resume", "export", "rename", "note")
NEEDS_ONE = ("open", "resume", "export", "rename", "note", "folder")
