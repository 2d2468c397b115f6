"""The owner of the trainer thread: starts it, asks it to pause and stop, and brings its records over.

The trainer never waits for the window. It pushes records into a bounded buffer; a 33 ms timer in
the GUI thread empties the buffer and sends everything on as one signal.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from app.training.progress import RunPlace, RunPlan
from core.config import RunConfig
from core.errors import SignScopeError
from core.metrics.step_buffer import StepBuffer
from core.training.input_statistics import InputStatistics
from core.training.records import (
    EpochRecord,
    Evaluation,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from core.training.run_state import RunControl, RunEvent, RunSnapshot, RunState

if TYPE_CHECKING:
    from core.training.session import RunResult

TICK_MS = 33
BUFFER_CAPACITY = 100_000
"""Records held for the window: more than a minute at 1000 steps/s."""

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
class RunTally:
    """Exact counts over the batches of this run, whatever the window had time to draw."""

    batches: int = 0
    applied: int = 0
    clipped: int = 0
    non_finite: int = 0

    def plus(self, record: StepRecord) -> RunTally:
        """Give the counts with one more batch."""
        return replace(
            self,
            batches=self.batches + 1,
            applied=self.applied + record.outcome.applied,
            clipped=self.clipped + (record.outcome.applied and record.clipped),
            non_finite=self.non_finite + record.outcome.non_finite,
        )


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """Everything that happened since the last update, oldest first."""

    records: tuple[Record, ...]
    tally: RunTally
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
        self._tally = RunTally()
        self._lock = threading.Lock()

    def tally(self) -> RunTally:
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


class _TrainerThread(QThread):
    """One run from start to end; afterwards ``result`` or ``error`` is set."""

    def __init__(
        self,
        job: RunJob,
        request: RunRequest,
        control: RunControl,
        collector: _Collector,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("trainer")
        self._job = job
        self._request = request
        self._control = control
        self.collector = collector
        self.result: RunResult | None = None
        self.error: SignScopeError | None = None

    def run(self) -> None:
        """Train in this thread; no error leaves it, each is kept for the window to show."""
        try:
            self.result = self._job(self._request, self._control, self.collector)
        except SignScopeError as error:
            self.error = error
        except BaseException as error:
            self.error = SignScopeError(
                f"Training ended with an unexpected error ({type(error).__name__}: {error})",
                subject=traceback.format_exc().strip().splitlines()[-3].strip(),
                hint="The last checkpoint is kept. Please report this with the text above.",
            )
            traceback.print_exc()


class RunController(QObject):
    """Starts, pauses, resumes and stops runs, one at a time. Every method is for the GUI thread.

    ``state_changed`` comes after every ``updated`` that carries a record which led to it. FINISHED and
    FAILED are announced when the trainer thread is gone, so ``start`` may be called in that very slot.
    """

    updated = Signal(object)
    """A RunUpdate, at most one a tick."""
    state_changed = Signal(object)
    """A RunSnapshot."""
    ended = Signal(object)
    """The RunResult of a run that finished or was stopped, after its last state_changed."""
    failed = Signal(object)
    """The SignScopeError that ended a run, after its last state_changed."""

    _poked = Signal()

    def __init__(self, parent: QObject | None = None, job: RunJob = train) -> None:
        super().__init__(parent)
        self._job = job
        self._control = RunControl(listener=self._on_transition)
        self._announced = self._control.snapshot()
        self._thread: _TrainerThread | None = None
        self._collector = _Collector()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        # Queued: the worker's transitions arrive in this thread, and after the records before them.
        self._poked.connect(self._tick, Qt.ConnectionType.QueuedConnection)

    def snapshot(self) -> RunSnapshot:
        """Give the state that was announced last; buttons go by it."""
        return self._announced

    @property
    def active(self) -> bool:
        """Whether a trainer thread exists."""
        return self._thread is not None

    def tally(self) -> RunTally:
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
        if self._thread is not None or not self._control.apply_if_allowed(RunEvent.START):
            return False
        self._collector = _Collector()
        thread = _TrainerThread(self._job, request, self._control, self._collector, self)
        self._thread = thread
        thread.finished.connect(self._on_thread_finished)
        self._timer.start(TICK_MS)
        # The window shares the cores with the trainer and has short work: the trainer gives way to it
        # no more than the system's scheduler does by itself.
        thread.start()
        return True

    def pause(self) -> bool:
        """Ask the run to rest after its current batch; say whether the state allowed it."""
        return self._control.apply_if_allowed(RunEvent.PAUSE)

    def resume(self) -> bool:
        """Let a resting run go on; say whether the state allowed it."""
        return self._control.apply_if_allowed(RunEvent.RESUME)

    def toggle_pause(self) -> bool:
        """Pause a run that runs, resume one that rests; say whether either was allowed."""
        return self.resume() or self.pause()

    def stop(self) -> bool:
        """Ask the run to save its work and end after its current batch; say whether that was allowed."""
        return self._control.apply_if_allowed(RunEvent.STOP)

    def shutdown(self, timeout_s: float) -> bool:
        """Stop a run and wait for its thread; say whether it was gone within the limit.

        Blocks the GUI thread: for the very end of the program and for tests.
        """
        thread = self._thread
        if thread is None:
            return True
        self.stop()
        if not thread.wait(round(timeout_s * 1000)):
            return False
        self._conclude(thread)
        return True

    def _on_transition(self, _snapshot: RunSnapshot) -> None:
        self._poked.emit()

    @Slot()
    def _tick(self) -> None:
        # The state is read before the buffer: whatever led to it is in the buffer by then.
        snapshot = self._control.snapshot()
        records = self._collector.buffer.drain()
        if records:
            self.updated.emit(
                RunUpdate(tuple(records), self._collector.tally(), self._collector.buffer.evicted)
            )
        if snapshot != self._announced:
            self._announced = snapshot
            self.state_changed.emit(snapshot)

    @Slot()
    def _on_thread_finished(self) -> None:
        thread = self._thread
        if thread is not None and thread.isFinished():
            self._conclude(thread)

    def _conclude(self, thread: _TrainerThread) -> None:
        thread.wait()
        self._timer.stop()
        self._thread = None
        thread.deleteLater()
        result, error = thread.result, thread.error
        self._control.apply(RunEvent.FINISHED if error is None else RunEvent.FAILED)
        self._tick()
        if error is not None:
            self.failed.emit(error)
        elif result is not None:
            self.ended.emit(result)

    def is_idle(self) -> bool:
        """Whether no run is active and the last state was announced."""
        return self._thread is None and self._announced.state in (
            RunState.IDLE,
            RunState.FINISHED,
            RunState.FAILED,
        )
