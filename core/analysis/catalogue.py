"""The runs in a folder, as a list for people: also those that are running, interrupted or damaged."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from signscope.errors import LedgerError, RunFolderError
from signscope.folder import About, RunFolder
from signscope.reader import LedgerReader

UNREADABLE = "unreadable"
"""The state shown for a folder that was a run but cannot be read; ``problem`` says why."""

_GROWING = ("running", "pausing", "paused", "stopping", "interrupted")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the run browser. WERs are shares; None is not measured."""

    path: Path
    name: str
    state: str  # a state of RunInfo, "interrupted" or "unreadable"
    corpus: str = ""
    synthetic: bool = False
    best_wer: float | None = None
    test_wer: float | None = None
    epochs: int = 0
    total_epochs: int = 0
    batches: int = 0
    duration_s: float = 0.0
    device: str = ""
    note: str = ""
    created: float = 0.0  # seconds since the Unix epoch
    problem: str = ""

    @property
    def readable(self) -> bool:
        """Whether the run can be opened."""
        return self.state != UNREADABLE


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """Give every run folder in ``runs_dir``, newest first; folders that hold no run are passed over.

    One broken folder never hides the others: it is listed with its reason. A missing ``runs_dir``
    has no runs.

    Raises:
        RunFolderError: ``runs_dir`` cannot be read.
    """
    try:
        folders = (
            [path for path in runs_dir.iterdir() if path.is_dir()] if runs_dir.exists() else []
        )
    except OSError as error:
        raise RunFolderError(
            f"The folder of runs cannot be read ({error.strerror or error})",
            subject=str(runs_dir),
            hint="Check the path and that you may read it.",
        ) from error
    found = [summarize(path) for path in folders if _looks_like_a_run(path)]
    return sorted(found, key=lambda run: (-run.created, run.path.name))


def summarize(path: Path) -> RunSummary:
    """Give the line of one run folder; never raises for a damaged one."""
    folder = RunFolder(path)
    try:
        info = folder.read_info()
        state = folder.shown_state()
    except RunFolderError as error:
        return RunSummary(path=path, name=path.name, state=UNREADABLE, problem=str(error))
    problem = info.error
    try:
        about = folder.read_about()
    except RunFolderError as error:  # the run itself can be read, shown and trained all the same
        about, problem = About(name=path.name), str(error)
    return RunSummary(
        path=path,
        name=about.name,
        state=state,
        corpus=info.corpus.name,
        synthetic=info.corpus.synthetic,
        best_wer=info.best_wer,
        test_wer=info.test_wer,
        epochs=info.epochs,
        total_epochs=info.total_epochs,
        batches=_batches_now(folder) if state in _GROWING else info.batches,
        duration_s=info.duration_s,
        device=info.device,
        note=about.note,
        created=info.created,
        problem=problem,
    )


def rename_run(path: Path, name: str) -> None:
    """Change the name shown for a run; its folder keeps its own.

    Raises:
        RunFolderError: The name is empty, or about.json cannot be read or written.
    """
    if not name.strip():
        raise RunFolderError(
            "A run needs a name", subject=str(path), hint="Type at least one letter."
        )
    RunFolder(path).update_about(name=name.strip())


def set_note(path: Path, note: str) -> None:
    """Change the note of a run; raises RunFolderError when about.json cannot be read or written."""
    RunFolder(path).update_about(note=note)


def _batches_now(folder: RunFolder) -> int:
    """Batches in the ledger, which is ahead of run.json until the run ends."""
    with contextlib.suppress(LedgerError), LedgerReader(folder.ledger_path) as reader:
        return reader.step_count()
    return 0


def _looks_like_a_run(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    folder = RunFolder(path)
    try:
        return any(
            file.exists() for file in (folder.info_path, folder.ledger_path, folder.config_path)
        )
    except OSError:  # not ours to look into: listed with that as its reason
        return True
