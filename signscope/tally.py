"""Counts over batches, kept the same way for an epoch, a run, the health line and the log."""

from __future__ import annotations

import math
from dataclasses import dataclass

from signscope.records import EpochRecord, Evaluation, Outcome, StepRecord


@dataclass(frozen=True, slots=True)
class OutcomeCounts:
    """How many batches ended how; what was applied and what was not add up to ``batches``. For any thread."""

    batches: int = 0
    applied: int = 0
    clipped: int = 0
    non_finite: int = 0
    large: int = 0
    skipped_by_policy: int = 0
    out_of_memory: int = 0
    skipped_by_scaler: int = 0
    discarded: int = 0  # by a watched script, what it left at its end among them

    @property
    def not_applied(self) -> int:
        """How many left the weights as they were, whatever the reason."""
        return (
            self.non_finite
            + self.skipped_by_policy
            + self.out_of_memory
            + self.skipped_by_scaler
            + self.discarded
        )

    def plus(self, record: StepRecord) -> OutcomeCounts:
        """Give the counts with one more batch."""
        return OutcomeCounts(
            self.batches + 1,
            self.applied + record.outcome.applied,
            self.clipped + record.clipped,
            self.non_finite + record.outcome.non_finite,
            self.large + record.large,
            self.skipped_by_policy + (record.outcome is Outcome.SKIPPED_BY_POLICY),
            self.out_of_memory + (record.outcome is Outcome.FAILED_OUT_OF_MEMORY),
            self.skipped_by_scaler + (record.outcome is Outcome.SKIPPED_BY_SCALER),
            self.discarded + record.outcome.discarded,
        )


class Tally:
    """The counts of an epoch as it goes, and its mean loss. Not thread-safe: it belongs to one thread."""

    def __init__(self) -> None:
        self.counts = OutcomeCounts()
        self.duration_s = 0.0  # of the batches, waiting for data among it, pauses not
        self._loss_sum = 0.0
        self._finite_losses = 0

    def add(self, record: StepRecord) -> None:
        """Count one batch."""
        self.counts = self.counts.plus(record)
        self.duration_s += record.data_s + record.step_s
        if math.isfinite(record.loss):
            self._loss_sum += record.loss
            self._finite_losses += 1

    @property
    def avg_loss(self) -> float:
        """Mean over all batches with a finite loss, applied or not; NaN when there is none."""
        return self._loss_sum / self._finite_losses if self._finite_losses else math.nan

    def epoch_record(self, epoch: int, *, wall_time: float, dev: Evaluation | None) -> EpochRecord:
        """Give the counts as the record of a finished epoch."""
        counts = self.counts
        return EpochRecord(
            epoch=epoch,
            batches=counts.batches,
            avg_loss=self.avg_loss,
            applied=counts.applied,
            clipped=counts.clipped,
            non_finite=counts.non_finite,
            large=counts.large,
            skipped_by_policy=counts.skipped_by_policy,
            duration_s=self.duration_s + (0.0 if dev is None else dev.duration_s),
            wall_time=wall_time,
            dev=dev,
        )
