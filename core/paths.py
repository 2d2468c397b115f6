"""Where SignScope keeps files of its own, on every platform, and the variables that move them."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from signscope.paths import folder_named_by

_APP = "signscope"


def models_dir() -> Path:
    """Folder of the landmark model files; moved by SIGNSCOPE_MODELS. Not created here."""
    return folder_named_by("SIGNSCOPE_MODELS") or platformdirs.user_cache_path(_APP) / "models"


def corpora_dir() -> Path:
    """Folder of corpora that SignScope makes itself; moved by SIGNSCOPE_CORPORA. Not created here."""
    return folder_named_by("SIGNSCOPE_CORPORA") or platformdirs.user_data_path(_APP) / "corpora"
