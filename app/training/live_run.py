"""A run of this process: the trainer's thread tells it, the window asks it what is new."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.corpus.corpus_facts import is_synthetic
from app.training.progress import RunPlan
from core.config import DEMO_CORPUS, RunConfig
from core.landmarks.input_statistics import InputStatistics
from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.records import (
    EpochRecord,
    Evaluation,
    EventKind,
    RunEventRecord,
    StepRecord,
)
from signscope.run_state import RunSnapshot
from signscope.step_buffer import StepBuffer

BUFFER_CAPACITY = 100_000
"""Batches held for the window: more than a minute at 1000 steps/s."""


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
class RunPlace:
    """Where a run writes, and what it is called."""

    folder: Path
    name: str


@dataclass(frozen=True, slots=True)
class BatchesLost:
    """So many batches can never be shown: there is no ledger to read them from."""

    count: int


Rare = (
    RunPlan | RunPlace | BatchesLost | InputStatistics | EpochRecord | RunEventRecord | Evaluation
)
Record = StepRecord | Rare


class LiveRun:
    """Hands a run over from the trainer's thread to the GUI thread, each batch exactly once and in order.

    ``on_...`` belong to the trainer's thread and return at once; everything else to the GUI thread.

    Batches wait in a bounded buffer. When the window was too slow and the buffer let go of some,
    ``missing`` names them: they are read from the ledger and handed back by ``fill`` before newer ones
    are given. Whatever is not a batch is rare, and never let go.

    Args:
        request: What is trained.
        snapshot: Gives the state of the trainer as it was announced last.
        capacity: Batches that wait at most.
    """

    def __init__(
        self,
        request: RunRequest,
        snapshot: Callable[[], RunSnapshot],
        capacity: int = BUFFER_CAPACITY,
    ) -> None:
        config = request.config
        corpus = config.data.corpus
        self.name = config.name or ("demo" if corpus == DEMO_CORPUS else Path(corpus).name)
        self.folder = request.resume
        """Its run folder, once it is made."""
        self.plan: RunPlan | None = None
        self.max_norm: float | None = config.optim.max_norm
        self.synthetic = is_synthetic(corpus)
        self.ended_as = ""
        """How it ended: "finished", "stopped" or "failed"; "" while it goes on."""
        self._snapshot = snapshot
        self._buffer: StepBuffer[StepRecord] = StepBuffer(capacity)
        self._rare: deque[tuple[int, Rare]] = deque()  # each with the batches that came before it
        self._first_step = 0  # of the trainer, which may go on from a checkpoint
        self._told_steps = 0  # number of the next batch; both belong to the trainer's thread
        self._next_step: int | None = None  # that the window gets
        self._arrived: list[StepRecord] = []
        self._ahead: list[StepRecord] = []  # beyond a gap
        self._held: list[tuple[int, Rare]] = []  # behind a gap

    # ------------------------------------------------------------ the trainer's thread

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """Take the plan."""
        self._tell(RunPlan(total_epochs, batches_per_epoch))

    def on_folder(self, path: Path) -> None:
        """Take the run folder, and look up what people call the run."""
        try:
            name = RunFolder(path).read_about().name
        except RunFolderError:
            name = path.name
        self._tell(RunPlace(path, name))

    def on_inputs(self, statistics: InputStatistics) -> None:
        """Take what the input looks like."""
        self._tell(statistics)

    def on_step(self, record: StepRecord) -> None:
        """Take one batch."""
        if self._told_steps == 0:
            self._first_step = record.step
        self._told_steps = record.step + 1
        self._buffer.push(record)

    def on_epoch(self, record: EpochRecord) -> None:
        """Take a finished epoch."""
        self._tell(record)

    def on_event(self, record: RunEventRecord) -> None:
        """Take an event."""
        self._tell(record)

    def on_test(self, evaluation: Evaluation) -> None:
        """Take the evaluation of the held-out split."""
        self._tell(evaluation)

    def _tell(self, record: Rare) -> None:
        self._rare.append((self._told_steps, record))

    # ------------------------------------------------------------ the GUI thread

    @property
    def state(self) -> str:
        """Where the run is, as run.json would say it."""
        return self.ended_as or self._snapshot().state.value

    @property
    def has_news(self) -> bool:
        """Whether ``news`` may have something to give."""
        return bool(self._rare or self._arrived or (not self._ahead and len(self._buffer)))

    @property
    def missing(self) -> range:
        """Batches that the buffer let go, to be read from the ledger; empty when there are none."""
        if not self._ahead or self._next_step is None:
            return range(0)
        return range(self._next_step, self._ahead[0].step)

    def news(self) -> Sequence[Record]:
        """Give what came since the last call, in the order it happened."""
        # Rare records first: every batch that came before one of them is in the buffer by then.
        self._held += [self._rare.popleft() for _ in range(len(self._rare))]
        if not self._ahead:
            self._ahead = self._buffer.drain()
            if self._ahead and self._next_step is None:
                self._next_step = self._first_step
            self._join()
        arrived, self._arrived = self._arrived, []
        return self._in_order(arrived)

    def fill(self, records: Sequence[StepRecord]) -> None:
        """Take the first of the missing batches, or all of them."""
        self._arrived += records
        self._next_step = records[-1].step + 1
        self._join()

    def give_up(self) -> None:
        """Go on without the missing batches: they are nowhere to be read."""
        self._held.append((self._ahead[0].step, BatchesLost(len(self.missing))))
        self._next_step = self._ahead[0].step
        self._join()

    def _join(self) -> None:
        """Let the batches ahead follow once nothing is missing before them."""
        if self._ahead and not self.missing:
            self._arrived += self._ahead
            self._next_step = self._ahead[-1].step + 1
            self._ahead = []

    def _in_order(self, arrived: list[StepRecord]) -> list[Record]:
        ordered: list[Record] = []
        begin = 0
        held, self._held = self._held, []
        for before, record in held:
            if before > (self._next_step or 0) and not _urgent(record):
                self._held.append((before, record))
                continue
            end = bisect_left(arrived, before, lo=begin, key=lambda each: each.step)
            ordered += arrived[begin:end]
            ordered.append(record)
            self._note(record)
            begin = end
        return ordered + arrived[begin:]

    def _note(self, record: Rare) -> None:
        if isinstance(record, RunPlan):
            self.plan = record
        elif isinstance(record, RunPlace):
            self.folder, self.name = record.folder, record.name


def _urgent(record: Rare) -> bool:
    """Whether a person is told at once, even of batches that are not there yet."""
    return isinstance(record, RunEventRecord) and record.kind in (EventKind.ALERT, EventKind.ERROR)
