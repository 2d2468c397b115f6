"""A run read back from its folder, whole: what the window needs to show it as if it had just ended.

Free of Qt; called in background threads. Nothing in a run folder names a path that must exist, so a
folder brought from another machine opens like one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.training.live_run import Record
from app.training.progress import RunPlan
from core.analysis.catalogue import RunSummary, summarize
from core.analysis.health.assessment import read_inputs
from core.analysis.history import History
from core.landmarks.input_statistics import InputStatistics
from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.reader import LedgerReader
from signscope.records import EpochRecord, Evaluation, RunEventRecord

LOG_TAIL_BYTES = 400_000
"""How much of the end of a run's log is read."""


@dataclass(frozen=True)
class LoadedRun:
    """Everything of a run that is shown, read at one moment: a source without news, see app.presenter."""

    summary: RunSummary
    history: History
    epochs: tuple[EpochRecord, ...]
    events: tuple[RunEventRecord, ...]
    test: Evaluation | None  # of the held-out signers
    max_norm: float | None  # None: the run did not clip
    inputs: InputStatistics | None  # None: not measured by this version of the program
    log: tuple[str, ...]

    @property
    def name(self) -> str:
        """What people call it."""
        return self.summary.name

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.summary.path

    @property
    def state(self) -> str:
        """Where it was: a state of run.json, or "interrupted"."""
        return self.summary.state

    @property
    def synthetic(self) -> bool:
        """Whether its corpus was made by a procedure."""
        return self.summary.synthetic

    @property
    def plan(self) -> RunPlan | None:
        """How many batches it set out to do; only a finished epoch tells how many it has."""
        if not self.epochs:
            return None
        return RunPlan(self.summary.total_epochs, self.epochs[0].batches)

    def news(self) -> Sequence[Record]:
        """Give what came since it was read: nothing."""
        return ()


def load_run(path: Path, progress: Callable[[int, int], None] | None = None) -> LoadedRun:
    """Read the run in folder ``path``; 10**7 batches take a few seconds.

    Args:
        path: The run folder.
        progress: Called with (batches read, batches in all); it may raise to end the reading.

    Raises:
        RunFolderError: The folder is no run, or its ledger is missing or damaged.
    """
    RunFolder.open(path)  # says what is wrong with a folder that is not whole
    folder = RunFolder(path)
    with LedgerReader(folder.ledger_path) as reader:
        history = History.from_ledger(reader, progress)
        _prepare(history)
        meta = reader.meta()
        bound = meta.get("max_norm")
        tests = [each for _epoch, each in reader.evaluations() if each.split == "test"]
        return LoadedRun(
            summary=summarize(path),
            history=history,
            epochs=tuple(reader.epochs()),
            events=tuple(reader.events()),
            test=tests[-1] if tests else None,
            max_norm=None if bound is None else float(bound),
            inputs=read_inputs(meta),
            log=_log_tail(folder.log_path),
        )


def load_history(path: Path, progress: Callable[[int, int], None] | None = None) -> History:
    """Read the curves alone; raises RunFolderError as :func:`load_run`."""
    with LedgerReader(RunFolder(path).ledger_path) as reader:
        history = History.from_ledger(reader, progress)
    _prepare(history)
    return history


def batches_to_share(history: History, share: float) -> int | None:
    """Give how many batches it took until one had at most ``share`` of the first loss; None for never."""
    loss_N = history.column("loss")
    if not len(loss_N):
        return None
    reached = np.flatnonzero(loss_N <= share * loss_N[0])
    return int(reached[0]) + 1 if len(reached) else None


def _prepare(history: History) -> None:
    """Build here what the first drawing would build in the GUI thread: pyramids and distributions."""
    for name in ("loss", "grad_norm_pre", "grad_norm_post"):
        history.series(name).extremes(0, len(history))
        history.histogram(name)


def _log_tail(path: Path) -> tuple[str, ...]:
    """The last lines of the log; a run without one has none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunFolderError(
            f"The log of the run cannot be read ({error.strerror or error})",
            subject=str(path),
            hint="Check that the file may be read.",
        ) from error
    lines = text.splitlines()
    return tuple(lines[1:] if size > LOG_TAIL_BYTES else lines)
