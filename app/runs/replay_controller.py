"""The owner of the replay's thread: the same batches trained once for each policy, watched as they go.

As with a training run, the worker pushes records into a bounded buffer and a timer in the GUI thread
empties it; the worker never waits for the window.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from app.training.run_controller import BUFFER_CAPACITY, TICK_MS
from core.errors import SignScopeError
from core.metrics.step_buffer import StepBuffer
from core.training.policy import UpdatePolicy
from core.training.records import (
    EpochRecord,
    Evaluation,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from core.training.run_state import RunControl, RunEvent, RunSnapshot

if TYPE_CHECKING:
    from core.training.replay import ReplayResult


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What to replay.

    Args:
        corpus: Folder of a corpus, or ``demo``.
        policies: As ``core.training.policy.parse_policy`` reads them.
        steps: Batches for each policy; None leaves it to the replay, see ``core.training.replay``.
        seed: Of weights, sentences and augmentation.
        share: Share of the first loss that is to be reached.
        runs_dir: Folder of the run folders that the replay leaves.
    """

    corpus: str
    policies: tuple[str, ...]
    steps: int | None
    seed: int
    share: float
    runs_dir: Path


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """A policy's turn has come."""

    steps: int  # batches that it is given


PolicyRecord = PolicyPlan | StepRecord | EpochRecord | RunEventRecord


@dataclass(frozen=True, slots=True)
class PolicyRecords:
    """What came of one policy since the last update, oldest first."""

    policy: str
    records: tuple[PolicyRecord, ...]


ObserverFactory = Callable[[UpdatePolicy, int], Sequence[TrainingObserver]]
ReplayJob = Callable[[ReplayRequest, RunControl, ObserverFactory], "ReplayResult"]
"""Replays until done or stopped, in the calling thread; raises SignScopeError."""


def replay_story(
    request: ReplayRequest, control: RunControl, observers_for: ObserverFactory
) -> ReplayResult:
    """Replay in the regime of the story. Torch is imported here, in the thread that calls."""
    from core.training.replay import replay, story_config

    return replay(
        story_config(request.corpus, request.seed),
        request.policies,
        steps=request.steps,
        runs_dir=request.runs_dir,
        control=control,
        observers_for=observers_for,
        share=request.share,
    )


_Item = tuple[str, PolicyRecord]


class _Collector:
    """Puts what one policy's trainer reports into the buffer, in the replay's thread."""

    def __init__(self, policy: UpdatePolicy, steps: int, buffer: StepBuffer[_Item]) -> None:
        self._policy = policy.name
        self._buffer = buffer
        buffer.push((self._policy, PolicyPlan(steps)))

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """The plan was told before anything else."""

    def on_step(self, record: StepRecord) -> None:
        self._buffer.push((self._policy, record))

    def on_epoch(self, record: EpochRecord) -> None:
        self._buffer.push((self._policy, record))

    def on_event(self, record: RunEventRecord) -> None:
        self._buffer.push((self._policy, record))

    def on_test(self, evaluation: Evaluation) -> None:
        """A replay looks at the dev split only."""


class _ReplayThread(QThread):
    """One replay from start to end; afterwards ``result`` or ``error`` is set."""

    def __init__(
        self, job: ReplayJob, request: ReplayRequest, control: RunControl, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.setObjectName("replay")
        self._job = job
        self._request = request
        self._control = control
        self.buffer: StepBuffer[_Item] = StepBuffer(BUFFER_CAPACITY)
        self.result: ReplayResult | None = None
        self.error: SignScopeError | None = None

    def run(self) -> None:
        """Replay in this thread; no error leaves it, each is kept for the window to show."""
        try:
            self.result = self._job(
                self._request,
                self._control,
                lambda policy, steps: [_Collector(policy, steps, self.buffer)],
            )
        except SignScopeError as error:
            self.error = error
        except BaseException as error:
            traceback.print_exc()
            self.error = SignScopeError(
                f"The replay ended with an unexpected error ({type(error).__name__}: {error})",
                hint="The policies that were done keep their run folders. Please report this.",
            )


class ReplayController(QObject):
    """Starts and stops replays, one at a time. Every method is for the GUI thread."""

    updated = Signal(object)
    """A tuple of PolicyRecords, at most one a tick."""
    state_changed = Signal(object)
    """A RunSnapshot, after every ``updated`` that led to it."""
    ended = Signal(object)
    """The ReplayResult, complete or as far as it came before a stop; its thread is gone."""
    failed = Signal(object)
    """The SignScopeError that ended a replay; its thread is gone."""

    _poked = Signal()

    def __init__(self, parent: QObject | None = None, job: ReplayJob = replay_story) -> None:
        super().__init__(parent)
        self._job = job
        self._control = RunControl(listener=self._on_transition)
        self._announced = self._control.snapshot()
        self._thread: _ReplayThread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._poked.connect(self._tick, Qt.ConnectionType.QueuedConnection)

    @property
    def active(self) -> bool:
        """Whether a replay is going on."""
        return self._thread is not None

    def snapshot(self) -> RunSnapshot:
        """Give the state that was announced last."""
        return self._announced

    def start(self, request: ReplayRequest) -> bool:
        """Start a replay unless one is going on; say whether it was started."""
        if self._thread is not None or not self._control.apply_if_allowed(RunEvent.START):
            return False
        thread = _ReplayThread(self._job, request, self._control, self)
        self._thread = thread
        thread.finished.connect(self._on_thread_finished)
        self._timer.start()
        thread.start()
        return True

    def resume(self) -> bool:
        """Go on after a rest (ten non-finite batches in a row make one); say whether it was one."""
        return self._control.apply_if_allowed(RunEvent.RESUME)

    def stop(self) -> bool:
        """Ask the replay to end after its current batch; say whether that was allowed."""
        return self._control.apply_if_allowed(RunEvent.STOP)

    def shutdown(self, timeout_s: float) -> bool:
        """Stop a replay and wait for its thread; say whether it was gone within the limit. Blocks."""
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
        if self._thread is not None:
            self._hand_over(self._thread)
        if snapshot != self._announced:
            self._announced = snapshot
            self.state_changed.emit(snapshot)

    def _hand_over(self, thread: _ReplayThread) -> None:
        grouped = tuple(
            PolicyRecords(policy, tuple(record for _policy, record in items))
            for policy, items in groupby(thread.buffer.drain(), key=itemgetter(0))
        )
        if grouped:
            self.updated.emit(grouped)

    @Slot()
    def _on_thread_finished(self) -> None:
        thread = self._thread
        if thread is not None and thread.isFinished():
            self._conclude(thread)

    def _conclude(self, thread: _ReplayThread) -> None:
        thread.wait()
        self._timer.stop()
        self._hand_over(thread)
        self._thread = None
        thread.deleteLater()
        self._control.apply(RunEvent.FINISHED if thread.error is None else RunEvent.FAILED)
        self._tick()
        if thread.error is not None:
            self.failed.emit(thread.error)
        elif thread.result is not None:
            self.ended.emit(thread.result)
