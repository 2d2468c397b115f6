"""Where SignScope keeps files of its own, on every platform, and the variables that move them."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "signscope"


def _folder(variable: str, default: Path) -> Path:
    chosen = os.environ.get(variable)
    return Path(chosen).expanduser() if chosen else default


def models_dir() -> Path:
    """Folder of the landmark model files; moved by SIGNSCOPE_MODELS. Not created here."""
    return _folder("SIGNSCOPE_MODELS", platformdirs.user_cache_path(_APP) / "models")


def corpora_dir() -> Path:
    """Folder of corpora that SignScope makes itself; moved by SIGNSCOPE_CORPORA. Not created here."""
    return _folder("SIGNSCOPE_CORPORA", platformdirs.user_data_path(_APP) / "corpora")
