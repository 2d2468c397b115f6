"""Moving run folders into the bin of the desktop."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QFile, QStandardPaths

Trash = Callable[[Path], bool]
"""Moves a folder into the bin; says whether there is a bin that took it."""


def move_to_bin(path: Path) -> bool:
    """Move a folder into the bin of the desktop; say whether that worked."""
    if sys.platform.startswith(
        "linux"
    ):  # there the bin is made within this folder, but not the folder
        data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
        with contextlib.suppress(OSError):
            Path(data).mkdir(parents=True, exist_ok=True)
    # PySide gives a bool, or (bool, place), as its version pleases.
    result: object = QFile.moveToTrash(str(path))
    return bool(result[0] if isinstance(result, tuple) else result)
