"""The owner of the trainer thread: starts it, asks it to pause and stop, and brings its records over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.training.compute_slot import ComputeSlot
from app.training.progress import RunPlace, RunPlan
from app.training.work_controller import BUFFER_CAPACITY, TICK_MS, WorkController
from core.config import RunConfig
from core.landmarks.input_statistics import InputStatistics
from signscope.records import (
    EpochRecord,
    Evaluation,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from signscope.run_state import RunControl, RunEvent, RunState
from signscope.step_buffer import StepBuffer
from signscope.tally import OutcomeCounts

if TYPE_CHECKING:
    from core.training.session import RunResult

Record = (
    RunPlan | RunPlace | InputStatistics | StepRecord | EpochRecord | RunEventRecord | Evaluation
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to train, where to put it, and which run folder to continue, if any.

    ``accept_changes`` continues it although something changed since its checkpoint was made.
    """

    config: RunConfig
    runs_dir: Path
    resume: Path | None = None
    accept_changes: bool = False


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """Everything that happened since the last update, oldest first."""

    records: tuple[Record, ...]
    tally: OutcomeCounts  # of all batches, whatever the window had time to draw
    evicted: int  # records that the window was too slow for, since the run began

    @property
    def steps(self) -> list[StepRecord]:
        """The batches among the records."""
        return [record for record in self.records if isinstance(record, StepRecord)]


RunJob = Callable[[RunRequest, RunControl, TrainingObserver], "RunResult"]
"""Trains until finished or stopped, in the calling thread; raises SignScopeError."""


def train(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
    """Run the real trainer. Torch is imported here, in the thread that calls."""
    from core.training.session import TrainingJob, run_job

    job = TrainingJob(
        config=request.config,
        runs_dir=request.runs_dir,
        resume=request.resume,
        accept_changes=request.accept_changes,
    )
    return run_job(job, control, [observer])


class _Collector:
    """Puts what the trainer reports into the buffer and counts it, in the trainer's thread."""

    def __init__(self) -> None:
        self.buffer: StepBuffer[Record] = StepBuffer(BUFFER_CAPACITY)
        self._tally = OutcomeCounts()
        self._lock = threading.Lock()

    def tally(self) -> OutcomeCounts:
        with self._lock:
            return self._tally

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        self.buffer.push(RunPlan(total_epochs, batches_per_epoch))

    def on_folder(self, path: Path) -> None:
        self.buffer.push(RunPlace(path))

    def on_inputs(self, statistics: InputStatistics) -> None:
        self.buffer.push(statistics)

    def on_step(self, record: StepRecord) -> None:
        with self._lock:
            self._tally = self._tally.plus(record)
        self.buffer.push(record)

    def on_epoch(self, record: EpochRecord) -> None:
        self.buffer.push(record)

    def on_event(self, record: RunEventRecord) -> None:
        self.buffer.push(record)

    def on_test(self, evaluation: Evaluation) -> None:
        self.buffer.push(evaluation)


class RunController(WorkController):
    """Starts, pauses, resumes and stops training runs, one at a time. Every method is for the GUI thread.

    ``updated`` carries a RunUpdate, ``ended`` a RunResult.
    """

    def __init__(self, parent: QObject | None = None, job: RunJob = train) -> None:
        super().__init__("trainer", ComputeSlot(), parent)
        self._job = job
        self._collector = _Collector()

    def tally(self) -> OutcomeCounts:
        """Give the exact counts of this or the last run."""
        return self._collector.tally()

    def set_tick(self, seconds: float) -> None:
        """Empty the buffer this often from now on; never more often than each 33 ms.

        A wake-up costs the trainer a share of its processor even when there is nothing to draw.
        """
        interval_ms = max(TICK_MS, round(1000 * seconds))
        if interval_ms != self._timer.interval():
            self._timer.setInterval(interval_ms)

    def start(self, request: RunRequest) -> bool:
        """Start a run if the state allows it; say whether it was started."""
        collector = _Collector()
        started = self._launch(lambda: self._job(request, self._control, collector))
        if started:
            self._collector = collector
        return started

    def pause(self) -> bool:
        """Ask the run to rest after its current batch; say whether the state allowed it."""
        return self._control.apply_if_allowed(RunEvent.PAUSE)

    def toggle_pause(self) -> bool:
        """Pause a run that runs, resume one that rests; say whether either was allowed."""
        return self.resume() or self.pause()

    def _deliver(self) -> None:
        records = self._collector.buffer.drain()
        if records:
            self.updated.emit(
                RunUpdate(tuple(records), self._collector.tally(), self._collector.buffer.evicted)
            )

    def is_idle(self) -> bool:
        """Whether no run is active and the last state was announced."""
        return self._thread is None and self._announced.state in (
            RunState.IDLE,
            RunState.FINISHED,
            RunState.FAILED,
        )
