"""Where runs are kept when nobody says where, and the variable that moves them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

RUNS_VARIABLE = "SIGNSCOPE_RUNS"


def runs_dir() -> Path:
    """Folder of run folders when none is named; moved by SIGNSCOPE_RUNS. Not created here."""
    chosen = os.environ.get(RUNS_VARIABLE)
    return Path(chosen).expanduser() if chosen else _user_data() / "runs"


def _user_data() -> Path:
    """The user's data folder, as platformdirs names it for an application called signscope."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(local) / "signscope" / "signscope"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "signscope"
    chosen = os.environ.get("XDG_DATA_HOME", "").strip()
    return Path(chosen or Path.home() / ".local" / "share") / "signscope"
