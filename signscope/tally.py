"""Counts over batches, kept the same way for an epoch, a run, the health line and the log."""

from __future__ import annotations

import math

from signscope.records import EpochRecord, Evaluation, Outcome, StepRecord


class Tally:
    """Running counts over step records. Not thread-safe: it belongs to one reader of records."""

    def __init__(self) -> None:
        self.batches = 0
        self.applied = 0
        self.clipped = 0
        self.non_finite = 0
        self.large = 0
        self.skipped_by_policy = 0
        self.out_of_memory = 0
        self.duration_s = 0.0  # of the batches, waiting for data among it, pauses not
        self._loss_sum = 0.0
        self._finite_losses = 0

    def add(self, record: StepRecord) -> None:
        """Count one batch."""
        self.batches += 1
        self.applied += record.outcome.applied
        self.clipped += record.clipped
        self.non_finite += record.outcome.non_finite
        self.large += record.large
        self.skipped_by_policy += record.outcome is Outcome.SKIPPED_BY_POLICY
        self.out_of_memory += record.outcome is Outcome.FAILED_OUT_OF_MEMORY
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
        return EpochRecord(
            epoch=epoch,
            batches=self.batches,
            avg_loss=self.avg_loss,
            applied=self.applied,
            clipped=self.clipped,
            non_finite=self.non_finite,
            large=self.large,
            skipped_by_policy=self.skipped_by_policy,
            duration_s=self.duration_s + (0.0 if dev is None else dev.duration_s),
            wall_time=wall_time,
            dev=dev,
        )
