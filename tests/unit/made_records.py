"""Records as a sound trainer would make them, for tests of what is done with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from signscope.records import EpochRecord, Evaluation, Outcome, StepRecord, WordErrors

MAX_NORM = 1.0


def clip_coef(pre: float) -> float:
    return min(1.0, MAX_NORM / (pre + 1e-6))


def make_step(
    step: int,
    *,
    batches_per_epoch: int = 10,
    loss: float | None = None,
    pre: float | None = None,
    outcome: Outcome = Outcome.APPLIED,
    detail: str = "",
) -> StepRecord:
    loss = 90.0 / (1 + step / 50) if loss is None else loss
    pre = 0.5 + 300.0 / (1 + step) if pre is None else pre
    coef = clip_coef(pre) if math.isfinite(pre) else math.nan
    return StepRecord(
        step=step,
        epoch=step // batches_per_epoch + 1,
        batch_idx=step % batches_per_epoch,
        loss=loss,
        loss_per_gloss=loss / 8,
        grad_norm_pre=pre,
        grad_norm_post=pre * coef,
        clip_coef=coef,
        lr=1e-3 / (1 + step),
        outcome=outcome,
        sample_ids=(f"clip-{step}", "ü mit Leerzeichen"),
        frames=400 + step,
        glosses=16,
        blank_fraction=0.5,
        data_s=0.001,
        step_s=0.012,
        memory_mib=812.25,
        wall_time=1.7e9 + step * 0.013,
        detail=detail,
    )


def non_finite_step(step: int, batches_per_epoch: int = 10) -> StepRecord:
    return make_step(
        step,
        batches_per_epoch=batches_per_epoch,
        loss=math.nan,
        pre=math.nan,
        outcome=Outcome.SKIPPED_NON_FINITE_LOSS,
        detail="encoder.weight",
    )


def make_evaluation(split: str = "dev", epoch: int = 1) -> Evaluation:
    return Evaluation(
        split=split,
        errors=WordErrors(4, 3, 2, 40 + epoch, 39),
        loss=7.25,
        blank_fraction=0.75,
        sentences=12,
        duration_s=0.5,
    )


def make_epoch(epoch: int, steps: Sequence[StepRecord], *, dev: bool = True) -> EpochRecord:
    rows = [record for record in steps if record.epoch == epoch]
    losses = [record.loss for record in rows if math.isfinite(record.loss)]
    return EpochRecord(
        epoch=epoch,
        batches=len(rows),
        avg_loss=math.fsum(losses) / len(losses) if losses else math.nan,
        applied=sum(record.outcome.applied for record in rows),
        clipped=sum(record.clipped for record in rows),
        non_finite=sum(record.outcome.non_finite for record in rows),
        large=sum(record.large for record in rows),
        skipped_by_policy=sum(record.outcome is Outcome.SKIPPED_BY_POLICY for record in rows),
        duration_s=1.5,
        wall_time=1.7e9,
        dev=make_evaluation(epoch=epoch) if dev else None,
    )


def same_records(left: Iterable[object], right: Iterable[object]) -> bool:
    """Equality in which NaN equals NaN."""
    return [repr(dataclasses.astuple(item)) for item in left] == [  # type: ignore[call-overload]
        repr(dataclasses.astuple(item))  # type: ignore[call-overload]
        for item in right
    ]
