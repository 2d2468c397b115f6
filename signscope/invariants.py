"""What must be true of every ledger, whatever was trained: checked from the rows alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from signscope.records import EpochRecord, Outcome
from signscope.schema import DTYPES, OUTCOMES, columns_of

if TYPE_CHECKING:
    from signscope.reader import LedgerReader

TOLERANCE = 1e-3
"""Relative slack of norms and clip coefficients: what bf16 gradients carry; fp32 stays within 1e-6."""

_NAMES = (
    "step",
    "epoch",
    "batch_idx",
    "loss",
    "grad_norm_pre",
    "grad_norm_post",
    "clip_coef",
    "outcome",
)
_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_MOST_REPORTED = 20

WATCHED = "watch"
"""What a ledger's meta ``source`` says of a run that SignScope did not train itself."""

Mask = npt.NDArray[np.bool_]


def broken_invariants(reader: LedgerReader) -> list[str]:
    """Give a sentence for each rule that the ledger breaks, at most 20 of each kind; [] is sound.

    The rules: steps count from 0 without gap or duplicate, batch_idx from 0 in every epoch; an
    applied batch has a finite loss and norm, and under the policy "clip" the gradient that the
    optimizer consumed is at most ``max_norm`` long; post = pre * clip_coef; a batch left out as
    non-finite was non-finite; every epoch's stored counts and mean loss are those of its rows; the
    packed curves equal the rows. Of a run that was watched and not trained by SignScope, only what
    SignScope itself answers for: the order of the rows, the norms it derived, and the curves.
    """
    with reader.snapshot():
        return _broken(reader)


def _broken(reader: LedgerReader) -> list[str]:
    watched = reader.meta().get("source") == WATCHED
    found: list[str] = []
    expected_step = 0
    previous = (0, -1)
    for columns in reader.columns(_NAMES, chunk=100_000):
        found += _order(columns, expected_step, previous)
        found += _norms(columns)
        found += [] if watched else _numbers(columns, reader)
        expected_step = int(columns["step"][-1]) + 1
        previous = (int(columns["epoch"][-1]), int(columns["batch_idx"][-1]))
    found += [] if watched else _epochs(reader, previous[0])
    found += _curves(reader)
    return found


def _order(columns: dict[str, Any], expected_step: int, previous: tuple[int, int]) -> list[str]:
    step_N, epoch_N, batch_N = columns["step"], columns["epoch"], columns["batch_idx"]
    before_N = np.concatenate(([expected_step - 1], step_N[:-1]))
    found = _sentences(
        step_N != before_N + 1, step_N, "Step {step} does not follow the step before it."
    )
    epoch_before_N = np.concatenate(([previous[0]], epoch_N[:-1]))
    batch_before_N = np.concatenate(([previous[1]], batch_N[:-1]))
    same_N = (epoch_N == epoch_before_N) & (batch_N == batch_before_N + 1)
    next_N = (epoch_N == epoch_before_N + 1) & (batch_N == 0)
    text = "Step {step} is not the next batch of its epoch, nor the first of the next epoch."
    return found + _sentences(~(same_N | next_N), step_N, text)


def _norms(columns: dict[str, Any]) -> list[str]:
    pre_N, post_N = columns["grad_norm_pre"], columns["grad_norm_post"]
    with np.errstate(invalid="ignore", over="ignore"):
        expected_N = pre_N * columns["clip_coef"]
        known_N = np.isfinite(post_N) & np.isfinite(expected_N)
        off_N = known_N & ~(np.abs(post_N - expected_N) <= TOLERANCE * expected_N + 1e-12)
    return _sentences(
        off_N & (columns["outcome"] == _CODE[Outcome.APPLIED]),
        columns["step"],
        "Step {step}: the norm after clipping is not the norm before it times clip_coef.",
    )


def _numbers(columns: dict[str, Any], reader: LedgerReader) -> list[str]:
    step_N, loss_N, outcome_N = columns["step"], columns["loss"], columns["outcome"]
    pre_N, post_N, coef_N = (
        columns["grad_norm_pre"],
        columns["grad_norm_post"],
        columns["clip_coef"],
    )
    applied_N = outcome_N == _CODE[Outcome.APPLIED]
    sound_N = applied_N & np.isfinite(loss_N) & np.isfinite(pre_N) & np.isfinite(post_N)
    found = _sentences(
        applied_N & ~sound_N,
        step_N,
        "Step {step} was applied although its loss or gradient norm is not finite.",
    )
    found += _clipping(step_N, sound_N, pre_N, post_N, coef_N, reader)
    bad_loss_N = outcome_N == _CODE[Outcome.SKIPPED_NON_FINITE_LOSS]
    bad_gradient_N = outcome_N == _CODE[Outcome.SKIPPED_NON_FINITE_GRADIENT]
    wrong_N = (bad_loss_N & np.isfinite(loss_N)) | (bad_gradient_N & np.isfinite(pre_N))
    return found + _sentences(
        wrong_N, step_N, "Step {step} was left out as non-finite, but its numbers are finite."
    )


def _clipping(
    step_N: Any, sound_N: Mask, pre_N: Any, post_N: Any, coef_N: Any, reader: LedgerReader
) -> list[str]:
    limit_N = _limits(reader, step_N)
    clip_N = sound_N & np.isfinite(limit_N)
    with np.errstate(invalid="ignore", divide="ignore"):
        long_N = clip_N & ~(post_N <= limit_N * (1 + TOLERANCE))
        wanted_N = np.minimum(1.0, limit_N / (pre_N + 1e-6))
        off_N = clip_N & ~(np.abs(coef_N - wanted_N) <= TOLERANCE * wanted_N)
    return _sentences(
        long_N, step_N, "Step {step} was applied with a gradient longer than max_norm."
    ) + _sentences(off_N, step_N, "Step {step}: clip_coef is not max_norm over the norm before it.")


def _limits(reader: LedgerReader, step_N: Any) -> npt.NDArray[np.float64]:
    """max_norm at each step; NaN where the policy did not clip or the ledger was not told."""
    limit_N = np.full(len(step_N), np.nan)
    for first, last, meta in reader.meta_stretches():
        if "max_norm" in meta and meta.get("policy", "clip") == "clip":
            limit_N[(step_N >= first) & (step_N <= last)] = float(meta["max_norm"])
    return limit_N


def _epochs(reader: LedgerReader, last_epoch: int) -> list[str]:
    found: list[str] = []
    stored = {record.epoch: record for record in reader.epochs()}
    for epoch, record in stored.items():
        found += _epoch(reader, epoch, record)
    missing = sorted(set(range(1, last_epoch)) - set(stored))  # the last may be unfinished
    found += [f"Epoch {epoch} was finished but has no row." for epoch in missing[:_MOST_REPORTED]]
    return found


def _epoch(reader: LedgerReader, epoch: int, record: EpochRecord) -> Iterator[str]:
    counts = reader.counts(epoch)
    if counts.batches != counts.applied + counts.not_applied:
        yield f"Epoch {epoch}: the outcomes do not add up to its {counts.batches} batches."
    for name in ("batches", "applied", "clipped", "non_finite", "large", "skipped_by_policy"):
        told, real = getattr(record, name), getattr(counts, name)
        if told != real:
            yield f"Epoch {epoch} says {name} = {told}, its rows say {real}."
    mean = reader.mean_loss(epoch)
    same = math.isclose(mean, record.avg_loss, rel_tol=1e-6, abs_tol=1e-12)
    if not same and not (math.isnan(mean) and math.isnan(record.avg_loss)):
        yield f"Epoch {epoch} says avg_loss = {record.avg_loss}, its rows say {mean}."


def _curves(reader: LedgerReader) -> list[str]:
    found: list[str] = []
    position = 0
    for block in reader.curves():
        count = len(block["step"])
        records = reader.steps(position, position + count - 1)
        position += count
        rows = columns_of(records)
        different = [
            name
            for name in DTYPES
            if not np.array_equal(rows[name], block[name], equal_nan=DTYPES[name].kind == "f")
        ]
        if different:
            first = position - count
            found.append(f"The curves from step {first} on differ from the rows: {different}.")
    return found[:_MOST_REPORTED]


def _sentences(wrong_N: Mask, step_N: Any, text: str) -> list[str]:
    return [text.format(step=int(step)) for step in step_N[wrong_N][:_MOST_REPORTED]]
