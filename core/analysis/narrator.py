"""The text of a run: the same lines in the window's log and on the command line.

Knows nothing of torch or Qt. Not thread-safe: one narrator belongs to one reader of records.
"""

from __future__ import annotations

import math
import time
from collections import deque

from signscope.records import (
    LARGE_GRAD_NORM,
    EpochRecord,
    Evaluation,
    EventKind,
    Outcome,
    RunEventRecord,
    StepRecord,
)

REPORT_EVERY = 100
"""Batches between two mentions of large gradient norms."""


class Narrator:
    """Turns records into log lines.

    Args:
        total_epochs: Epochs of the whole run, for "Epoch 1/50".
        max_norm: What gradients are clipped to; None when a replay does not clip.
        every: A line for each ``every``-th batch; batches that were not applied always get one.
    """

    def __init__(self, total_epochs: int, max_norm: float | None, every: int = 1) -> None:
        self._total_epochs = total_epochs
        self._max_norm = max_norm
        self._every = every
        self._epoch = 0
        self._recent_norms: deque[float] = deque(maxlen=REPORT_EVERY)

    def step(self, record: StepRecord) -> list[str]:
        """Give the lines for one batch, with the heading of its epoch where it begins."""
        lines = []
        if record.epoch != self._epoch:
            self._epoch = record.epoch
            lines.append(f"Epoch {record.epoch}/{self._total_epochs}:")
        if record.batch_idx % self._every == 0 or not record.outcome.applied:
            lines.append(f"  Batch {record.batch_idx}: {_describe_step(record)}")
        self._recent_norms.append(record.grad_norm_pre)
        if (record.step + 1) % REPORT_EVERY == 0:
            lines += self._large_norms()
        return lines

    def epoch(self, record: EpochRecord) -> list[str]:
        """Give the line that closes an epoch."""
        counts = (
            f"{record.applied} of {record.batches} batches applied, "
            f"{record.clipped} clipped, {record.non_finite} non-finite"
        )
        if record.skipped_by_policy:
            counts += f", {record.skipped_by_policy} skipped by the policy"
        parts = [f"avg_loss={record.avg_loss:.2f}"]
        if record.dev is not None:
            parts.append(describe_wer(record.dev))
        return [f"Epoch {record.epoch} complete: {', '.join(parts)}, {counts}"]

    def test(self, evaluation: Evaluation) -> list[str]:
        """Give the line for the held-out split."""
        return [
            f"Held-out signers: {describe_wer(evaluation)}, loss={evaluation.loss:.2f}, "
            f"{evaluation.sentences} sentences"
        ]

    def event(self, record: RunEventRecord) -> list[str]:
        """Give the line for an event, marked when it needs attention."""
        marks = {EventKind.ALERT: "Warning: ", EventKind.ERROR: "Error: "}
        clock = time.strftime("%H:%M:%S", time.localtime(record.wall_time))
        return [f"[{clock}] {marks.get(record.kind, '')}{record.text}"]

    def _large_norms(self) -> list[str]:
        large = [norm for norm in self._recent_norms if norm > LARGE_GRAD_NORM]
        if not large:
            return []
        treatment = "not clipped" if self._max_norm is None else f"clipped to {self._max_norm:.1f}"
        return [
            f"  Large gradient norm: {max(large):.2f} (normal at the start, {treatment}); "
            f"{len(large)} of {len(self._recent_norms)} batches above {LARGE_GRAD_NORM:.0f}"
        ]


def describe_wer(evaluation: Evaluation) -> str:
    """Give WER with its three kinds of errors: ``WER=75.0% (S 40 D 30 I 5)``."""
    errors = evaluation.errors
    share = "n/a" if math.isnan(errors.wer) else f"{100 * errors.wer:.1f}%"
    return f"WER={share} (S {errors.substitutions} D {errors.deletions} I {errors.insertions})"


def _describe_step(record: StepRecord) -> str:
    if record.outcome is Outcome.FAILED_OUT_OF_MEMORY:
        return f"NOT APPLIED, {record.detail}"
    norms = f"loss={record.loss:.2f}, grad_norm={record.grad_norm_pre:.2f}"
    if not record.outcome.applied:
        reason = record.detail or record.outcome.replace("_", " ")
        return f"{norms} NOT APPLIED, {reason}"
    if record.clipped:
        return f"{norms} -> {record.grad_norm_post:.2f} (clipped)"
    return f"{norms} (not clipped)"
