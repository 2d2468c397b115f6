"""The owner of the trainer thread: starts it, asks it to pause and stop, and says when it has news."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.background import background
from app.training.compute_slot import ComputeSlot
from app.training.live_run import BUFFER_CAPACITY, LiveRun, RunRequest
from app.training.work_controller import TICK_MS, WorkController, WorkThread
from app.waiting import Tasks
from signscope.errors import LedgerError
from signscope.folder import RunFolder
from signscope.reader import LedgerReader
from signscope.records import StepRecord, TrainingObserver
from signscope.run_state import RunControl, RunEvent

if TYPE_CHECKING:
    from core.training.session import RunResult

RunJob = Callable[[RunRequest, RunControl, TrainingObserver], "RunResult"]
"""Trains until finished or stopped, in the calling thread; raises SignScopeError."""

_ROWS_AT_ONCE = 20_000


def train(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
    """Run the real trainer. Torch is imported here, in the thread that calls."""
    from core.training.session import TrainingJob, resume_job, run_job

    if request.resume is None:
        job = TrainingJob(request.config, request.runs_dir)
    else:
        job = resume_job(request.resume, accept_changes=request.accept_changes)
    return run_job(job, control, [observer])


class RunController(WorkController):
    """Starts, pauses, resumes and stops training runs, one at a time. Every method is for the GUI thread.

    ``updated`` carries the LiveRun that has news, ``ended`` a RunResult.

    Args:
        job: What a run is.
        capacity: Batches that wait for the window at most.
    """

    def __init__(
        self,
        parent: QObject | None = None,
        job: RunJob = train,
        capacity: int = BUFFER_CAPACITY,
    ) -> None:
        super().__init__("trainer", ComputeSlot(), parent)
        self._job = job
        self._capacity = capacity
        self.run: LiveRun | None = None
        """The run in progress, or the one before."""
        self._tasks = Tasks(self)

    def set_tick(self, seconds: float) -> None:
        """Look for news this often from now on; never more often than each 33 ms.

        A wake-up costs the trainer a share of its processor even when there is nothing to draw.
        """
        interval_ms = max(TICK_MS, round(1000 * seconds))
        if interval_ms != self._timer.interval():
            self._timer.setInterval(interval_ms)

    def start(self, request: RunRequest) -> bool:
        """Start a run unless one, or a replay, is going on; say whether it was started."""
        run = LiveRun(request, self.snapshot, self._capacity)
        started = self._launch(lambda: self._job(request, self._control, run))
        if started:
            self.run = run
        return started

    def pause(self) -> bool:
        """Ask the run to rest after its current batch; say whether the state allowed it."""
        return self._control.apply_if_allowed(RunEvent.PAUSE)

    def toggle_pause(self) -> bool:
        """Pause a run that runs, resume one that rests; say whether either was allowed."""
        return self.resume() or self.pause()

    def _deliver(self) -> None:
        run = self.run
        if run is None:
            return
        if run.has_news:
            self.updated.emit(run)
        if run.missing and not self._tasks.busy:
            self._tasks.start(self._fetch_missing(run))

    async def _fetch_missing(self, run: LiveRun) -> None:
        """Read batches that the window was too slow for; they may not be on the disk yet."""
        ledger_is_whole = not self.active
        folder, missing = run.folder, run.missing
        rows = await background(self, lambda _: _rows(folder, missing), "reading missing batches")
        if rows:
            run.fill(rows)
        elif ledger_is_whole:
            run.give_up()
        if run is self.run and (rows or not self.active):  # else the next tick tries again
            self._poked.emit()

    def _conclude(self, thread: WorkThread) -> None:
        if self.run is not None:
            result: RunResult | None = thread.result  # type: ignore[assignment]
            if thread.error is not None:
                self.run.ended_as = "failed"
            else:  # without a result it was stopped before it began
                self.run.ended_as = "stopped" if result is None else result.state
        super()._conclude(thread)


def _rows(folder: Path | None, missing: range) -> list[StepRecord]:
    """Give the first of the missing batches, as far as the ledger has them; none while it cannot be read."""
    if folder is None:
        return []
    try:
        with LedgerReader(RunFolder(folder).ledger_path) as reader:
            return reader.steps(missing[0], missing[:_ROWS_AT_ONCE][-1])
    except LedgerError:
        return []
