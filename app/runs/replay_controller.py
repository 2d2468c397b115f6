"""The owner of the replay's thread: the same batches trained once for each policy, watched as they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.training.compute_slot import ComputeSlot
from app.training.live_run import BUFFER_CAPACITY
from app.training.work_controller import WorkController
from core.training.policy import UpdatePolicy
from signscope.records import (
    EpochRecord,
    Evaluation,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from signscope.run_state import RunControl
from signscope.step_buffer import StepBuffer

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
    """Replay long sentences in small batches, whose first norms lie above 100. Torch is imported here, in the thread that calls."""
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


class ReplayController(WorkController):
    """Starts and stops replays, one at a time. Every method is for the GUI thread.

    ``updated`` carries a tuple of PolicyRecords, ``ended`` a ReplayResult: complete, or as far as it
    came before a stop.
    """

    def __init__(
        self, slot: ComputeSlot, parent: QObject | None = None, job: ReplayJob = replay_story
    ) -> None:
        super().__init__("replay", slot, parent)
        self._job = job
        self._buffer: StepBuffer[_Item] = StepBuffer(BUFFER_CAPACITY)

    def start(self, request: ReplayRequest) -> bool:
        """Start a replay unless one, or a training run, is going on; say whether it was started."""
        buffer: StepBuffer[_Item] = StepBuffer(BUFFER_CAPACITY)
        started = self._launch(
            lambda: self._job(
                request,
                self._control,
                lambda policy, steps: [_Collector(policy, steps, buffer)],
            )
        )
        if started:
            self._buffer = buffer
        return started

    def _deliver(self) -> None:
        grouped = tuple(
            PolicyRecords(policy, tuple(record for _policy, record in items))
            for policy, items in groupby(self._buffer.drain(), key=itemgetter(0))
        )
        if grouped:
            self.updated.emit(grouped)
