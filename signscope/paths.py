"""Where runs are kept when nobody says where, and the variable that moves them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def runs_dir() -> Path:
    """Folder of run folders when none is named; moved by SIGNSCOPE_RUNS. Not created here."""
    return folder_named_by("SIGNSCOPE_RUNS") or _user_data() / "runs"


def folder_named_by(variable: str) -> Path | None:
    """Give the folder that an environment variable names, None where it is empty or not set."""
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser() if chosen else None


def _user_data() -> Path:
    """The user's data folder, as platformdirs names it for an application called signscope."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(local) / "signscope" / "signscope"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "signscope"
    chosen = os.environ.get("XDG_DATA_HOME", "").strip()
    return Path(chosen or Path.home() / ".local" / "share") / "signscope"
