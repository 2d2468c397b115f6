"""Whether the loss falls: divergence, a plateau."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.measures import LOW_LOSS, halves, lasting_since
from core.analysis.health.window import StepWindow
from signscope.records import EpochRecord

DIVERGENCE_WINDOW = 25
DIVERGENCE_FACTOR = 1.5
"""Medians per gloss of a healthy run's first batches scatter by a fifth with the lengths of the
sentences, and only ever fall from there: half as much again is beyond chance."""
RELAPSE_FROM, RELAPSE_TO = 0.2, 0.5
"""Having been below a fifth of the start and being back above half of it."""


def divergence(window: StepWindow) -> Finding | None:
    """Speak when the loss stays above where it started, or comes back towards it after it had fallen.

    Medians over DIVERGENCE_WINDOW batches of the loss per gloss; a loss that is not finite counts as
    infinite. Silent where the beginning of the run is not known.
    """
    n = DIVERGENCE_WINDOW
    start = window.start_loss_per_gloss()
    if len(window) < n or window.step_at(-1) + 1 < 2 * n or not math.isfinite(start):
        return None
    losses = window.newest("loss_per_gloss")
    losses = np.where(np.isfinite(losses), losses, np.inf)
    now = float(np.median(losses[-n:]))
    blocks = losses[len(losses) % n :].reshape(-1, n)
    lowest = float(np.median(blocks, axis=1).min())
    above = now > DIVERGENCE_FACTOR * start
    relapsed = lowest < RELAPSE_FROM * start and now > RELAPSE_TO * start
    if not (above or relapsed):
        return None
    limit = (DIVERGENCE_FACTOR if above else RELAPSE_TO) * start
    infinite = int(np.isinf(losses[-n:]).sum())
    lr = float(window.newest("lr", 1)[0])
    return Finding(
        FindingKind.DIVERGENCE,
        Severity.CRITICAL,
        "The loss is above its start" if above else "The loss has climbed back towards its start",
        f"The median loss per gloss of the last {n} batches is {now:.3g}; it started at {start:.3g} and "
        f"was {lowest:.3g} at its lowest. {infinite} of these losses are not finite. "
        f"The learning rate is {lr:.2g}.",
        "Stop, lower lr three to ten times or lengthen warmup_steps, and resume from a checkpoint of "
        "before it.",
        window.step_at(lasting_since(losses > limit, n)),
    )


PLATEAU_WINDOW = 500
PLATEAU_SHARE = 0.02
"""Medians of 250 batches scatter by about 1 %; a healthy run falls by far more than twice that."""
PLATEAU_LR_SHARE = 0.1
"""At the end of the schedule the loss is flat because the learning rate is small."""
PLATEAU_WER = 0.2
"""Below this WER on the dev split a flat loss is no trouble."""


def plateau(window: StepWindow, epochs: Sequence[EpochRecord]) -> Finding | None:
    """Speak when the loss stopped falling early: it is flat, high, and the learning rate is not."""
    n = PLATEAU_WINDOW
    if len(window) < n or window.warming_up(n):
        return None
    lr = window.newest("lr")
    before, after = halves(window.newest("loss_per_gloss", n))
    wer = next((e.dev.errors.wer for e in reversed(epochs) if e.dev is not None), math.nan)
    if (
        not after > LOW_LOSS
        or after < (1 - PLATEAU_SHARE) * before
        or lr[-1] < PLATEAU_LR_SHARE * lr.max()
        or wer < PLATEAU_WER
    ):
        return None
    told = f" The WER on the dev split is {wer:.1%}." if math.isfinite(wer) else ""
    return Finding(
        FindingKind.PLATEAU,
        Severity.WARNING,
        "The loss has stopped falling",
        f"The median loss per gloss is {before:.3g} in the first and {after:.3g} in the second half of the "
        f"last {n} batches, at a learning rate of {lr[-1]:.2g}.{told}",
        "Try another lr (higher at the start, or a faster decay), a wider model, or weaker augmentation; "
        "compare with an earlier run in the run browser.",
        window.step_at(-n),
    )
