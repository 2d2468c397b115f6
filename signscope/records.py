"""What training reports, as frozen data: one record a batch, one an epoch, one an event.

These records are the only thing that travels from the trainer to the ledger, the window and the
command line, so all three show the same numbers. They hold plain Python values and may be handed
to any thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol


class Outcome(StrEnum):
    """What became of one batch. Exactly one of these stands in every ledger row."""

    APPLIED = "applied"
    SKIPPED_NON_FINITE_LOSS = "skipped_non_finite_loss"
    SKIPPED_NON_FINITE_GRADIENT = "skipped_non_finite_gradient"
    SKIPPED_BY_POLICY = "skipped_by_policy"
    FAILED_OUT_OF_MEMORY = "failed_out_of_memory"
    DISCARDED = "discarded"  # by the watched script: cleared without a step
    SKIPPED_BY_SCALER = "skipped_by_scaler"  # a GradScaler found infinite gradients
    LEFT_AT_END = "left_at_end"  # neither stepped nor cleared when the watched script ended

    @property
    def applied(self) -> bool:
        """Whether the optimizer changed the weights with this batch."""
        return self is Outcome.APPLIED

    @property
    def non_finite(self) -> bool:
        """Whether the batch was left out because its loss or gradient was NaN or infinite."""
        return self in (Outcome.SKIPPED_NON_FINITE_LOSS, Outcome.SKIPPED_NON_FINITE_GRADIENT)

    @property
    def discarded(self) -> bool:
        """Whether a watched script threw the gradient away."""
        return self in (Outcome.DISCARDED, Outcome.LEFT_AT_END)


LARGE_GRAD_NORM = 200.0
"""Pre-clip norms above this are counted and mentioned; they are normal at the start of training."""

Index = Annotated[int, "<i4"]
Curve = Annotated[float, "<f4"]
Moment = Annotated[float, "<f8"]
Verdict = Annotated[Outcome, "u1"]
"""Fields that curves are drawn from too, and the type that they are packed as (signscope.schema)."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One batch, exactly as it happened. One of these is one row of the ledger.

    The one list of a step's columns: row, packed columns and exports follow from these fields, their
    order and their types (signscope.schema), so a new field is added here and nowhere else.

    Norms are L2 norms over all gradients. A value that does not exist (the norm of a batch that ran
    out of memory) and a value that is not a number are both NaN; ``outcome`` tells them apart.
    """

    step: Index  # from 0 over the whole run
    epoch: Index  # from 1
    batch_idx: int  # from 0 within the epoch
    loss: Curve  # negative log-likelihood summed over a sentence, mean over the batch
    loss_per_gloss: Curve  # the same divided by the batch's mean number of glosses
    grad_norm_pre: Curve  # before clipping
    grad_norm_post: Curve  # measured after clipping, what the optimizer consumed
    clip_coef: Curve  # factor that the gradients were multiplied with, 1.0 when not clipped
    lr: Curve  # learning rate that this batch was (or would have been) applied with
    outcome: Verdict
    sample_ids: tuple[str, ...]
    frames: int  # landmark frames in the batch, padding not counted
    glosses: int  # reference glosses in the batch
    blank_fraction: Curve  # share of encoder frames whose most probable class is blank
    data_s: Curve  # seconds spent waiting for the batch
    step_s: Curve  # seconds from having the batch to the end of the step
    memory_mib: Curve  # device memory in use (cuda) or resident memory of the process
    wall_time: Moment  # seconds since the Unix epoch
    detail: str = ""  # why it was not applied: tensors that were non-finite first, or the policy

    @property
    def clipped(self) -> bool:
        """Whether clipping made the gradient smaller."""
        return self.clip_coef < 1.0

    @property
    def large(self) -> bool:
        """Whether the pre-clip norm is above ``LARGE_GRAD_NORM`` (infinite counts as large)."""
        return self.grad_norm_pre > LARGE_GRAD_NORM


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Edit operations between references and hypotheses, counted in glosses."""

    substitutions: int
    deletions: int
    insertions: int
    reference_glosses: int
    hypothesis_glosses: int

    @property
    def wer(self) -> float:
        """Word error rate as a share (0.75 is 75 %); NaN when there was no reference."""
        if self.reference_glosses == 0:
            return math.nan
        return (self.substitutions + self.deletions + self.insertions) / self.reference_glosses


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Greedy decoding of one split with the weights as they were after an epoch."""

    split: str  # "dev" or "test"
    errors: WordErrors
    loss: float  # mean over sentences, same unit as StepRecord.loss
    blank_fraction: float
    sentences: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One finished epoch. Every count is derived from the ledger's rows of that epoch."""

    epoch: int
    batches: int
    avg_loss: float  # mean over all batches whose loss is finite, applied or not
    applied: int
    clipped: int
    non_finite: int
    large: int
    skipped_by_policy: int
    duration_s: float
    wall_time: float
    dev: Evaluation | None = None


class EventKind(StrEnum):
    """What a line of a run's log is about; the plots mark the first five."""

    PAUSED = "paused"
    RESUMED = "resumed"
    CHECKPOINT = "checkpoint"
    ALERT = "alert"
    ERROR = "error"
    STARTED = "started"
    STOPPED = "stopped"
    FINISHED = "finished"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class RunEventRecord:
    """Something worth remembering that is not a batch, at the step that it happened before."""

    step: int
    kind: EventKind
    text: str
    wall_time: float


class TrainingObserver(Protocol):
    """Whoever watches a run. All calls come from the trainer's thread and must return at once."""

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """The plan of the run, before its first batch."""

    def on_step(self, record: StepRecord) -> None:
        """One batch was finished."""

    def on_epoch(self, record: EpochRecord) -> None:
        """One epoch was finished and evaluated."""

    def on_event(self, record: RunEventRecord) -> None:
        """Something else happened."""

    def on_test(self, evaluation: Evaluation) -> None:
        """The held-out split was evaluated after the last epoch."""
