"""A run as the comparison needs it: read from its folder in a thread. Free of Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.runs.loading import load_history
from core.analysis.catalogue import RunSummary, summarize
from core.analysis.compare import flat_settings
from core.analysis.history import History
from signscope.errors import RunFolderError
from signscope.folder import RunFolder


@dataclass(frozen=True)
class ComparedRun:
    """One run with its curves and settings; ``settings`` is empty where they cannot be read."""

    summary: RunSummary
    history: History
    settings: dict[str, object]

    @property
    def key(self) -> str:
        """What tells this run from the others."""
        return str(self.summary.path)


def load_for_comparison(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> ComparedRun:
    """Read a run folder; raises RunFolderError when it is none or its ledger cannot be read."""
    RunFolder.open(path)
    history = load_history(path, progress)
    try:
        settings = flat_settings(path)
    except RunFolderError:
        settings = {}  # the curves are worth more than no comparison at all
    return ComparedRun(summarize(path), history, settings)
