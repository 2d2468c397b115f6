"""Whether gradients become updates: batches that are left out, clipping for good, gradients that vanish."""

from __future__ import annotations

from collections import Counter

import numpy as np

from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.measures import LOW_LOSS, Bools, halves, lasting_since, median, span
from core.analysis.health.window import StepWindow
from signscope.records import Outcome
from signscope.schema import OUTCOMES

DISCARD_LEAST = 3
DISCARD_WINDOW = 1000
DISCARD_SHARE = 0.1
"""A loop that drops a batch now and then, because its loss was NaN, has a reason. One that drops a tenth of
them has a rule, and a person should know it."""


def discarded(window: StepWindow) -> Finding | None:
    """Speak when a watched script throws gradients away: it clears them without stepping.

    From DISCARD_LEAST of them on; critical where they are a DISCARD_SHARE of the newest DISCARD_WINDOW.
    """
    n = min(len(window), DISCARD_WINDOW)
    gone = window.newest_outcome(Outcome.DISCARDED, n)
    count = int(gone.sum())
    if count < DISCARD_LEAST:
        return None
    places = np.flatnonzero(gone) + len(window) - n
    norms = window.newest("grad_norm_pre")[places]
    last = "not seen" if np.isnan(norms[-1]) else f"{norms[-1]:.3g}"
    finite = norms[np.isfinite(norms)]
    told = f" Their norms before clipping were {span(finite)}." if len(finite) else ""
    return Finding(
        FindingKind.DISCARDED,
        Severity.CRITICAL if count >= DISCARD_SHARE * n else Severity.NOTICE,
        f"{count} of {n} gradients were discarded",
        "The script called zero_grad, or set the gradients to None, without step; norm before clipping "
        f"{last} at the last of them (batch {window.step_at(int(places[-1]))}).{told}",
        "Look for a condition around optimizer.step, such as one on the norm that clip_grad_norm_ returns: that "
        "is the norm before clipping, and a clipped gradient is safe to step on. Skip only what is not finite.",
        window.step_at(int(places[0])),
    )


LATCH_BATCHES = 20
"""Normal training applies every finite gradient and pauses after 10 non-finite ones in a row (the
default), so twice that without an update never happens in a healthy run."""

FEW_UPDATES_WINDOW = 100
FEW_UPDATES_SHARE = 0.5
"""A script that skips large gradients applies one now and then, so that no stretch is long. Less
than half of a hundred batches applied is no accident: a healthy run applies all of them."""


def latched(window: StepWindow) -> Finding | None:
    """Speak when batches come and go and the weights stay as they are.

    Either LATCH_BATCHES or more in a row are not applied (the longest stretch is named, also when it
    is over), or fewer than half of the last FEW_UPDATES_WINDOW are.
    """
    applied = window.newest_outcome(Outcome.APPLIED)
    first, length = _run_to_name(~applied)
    if length >= LATCH_BATCHES:
        last = first + length - 1
        over = last < len(applied) - 1
        title = (
            f"For {length} batches no update was applied"
            if over
            else f"No update has been applied for {length} batches"
        )
        severity = Severity.WARNING if over else Severity.CRITICAL
    else:
        recent = applied[-FEW_UPDATES_WINDOW:]
        if len(recent) < FEW_UPDATES_WINDOW or recent.mean() >= FEW_UPDATES_SHARE:
            return None
        first, last = len(applied) - FEW_UPDATES_WINDOW, len(applied) - 1
        title = f"Only {int(recent.sum())} of the last {FEW_UPDATES_WINDOW} batches were applied"
        severity = Severity.CRITICAL
    chosen = slice(first, last + 1)
    codes = window.recent["outcome"][chosen][~applied[chosen]]
    counts = Counter(OUTCOMES[int(code)] for code in codes)
    norms = window.newest("grad_norm_pre")[chosen]
    finite = norms[np.isfinite(norms)]
    told = f" Their gradient norms were {span(finite)}." if len(finite) else ""
    reasons = ", ".join(
        f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.most_common()
    )
    return Finding(
        FindingKind.LATCHED,
        severity,
        title,
        f"Of batches {window.step_at(first)} to {window.step_at(last)} these left the weights as they "
        f"were: {reasons}.{told}",
        _LATCHED_ADVICE[counts.most_common(1)[0][0]],
        window.step_at(first),
    )


_NON_FINITE_ADVICE = (
    "Look at the samples and tensors that the rows of these batches name, then lower lr or lengthen "
    "warmup_steps and resume from a checkpoint before them."
)
_LATCHED_ADVICE = {
    Outcome.SKIPPED_BY_POLICY: "The policy throws away gradients that clipping makes safe, and large "
    "norms are normal at the start: clip, and always apply.",
    Outcome.SKIPPED_NON_FINITE_LOSS: _NON_FINITE_ADVICE,
    Outcome.SKIPPED_NON_FINITE_GRADIENT: _NON_FINITE_ADVICE,
    Outcome.SKIPPED_BY_SCALER: "The GradScaler keeps finding infinite gradients: look at its scale, at the loss, and "
    "at layers that overflow in half precision.",
    Outcome.DISCARDED: "Look for a condition around optimizer.step.",
    Outcome.LEFT_AT_END: "Look for a condition around optimizer.step.",
    Outcome.FAILED_OUT_OF_MEMORY: "Close other programs or choose a smaller batch_size.",
}

SATURATION_WINDOW = 200
SATURATION_AFTER = 500
"""A healthy first epoch clips 271 of its first 284 batches (95.4 %): nothing is said before this many
batches, twice that."""
SATURATION_SHARE = 0.95
SATURATION_COEF = 0.5
"""Clipping that keeps more than half of a gradient's length is less than one halving of the rate."""
SATURATION_FALL = 0.05
"""Runs on real clips went from a WER of 100 % to 0 % with every one of their first 1000 batches clipped
to a fifth, their loss falling by 10 to 30 % in each window: a cut rate is trouble where it stands still."""


def clip_saturation(window: StepWindow) -> Finding | None:
    """Speak when clipping has become permanent: over 95 % of a window after the warm-up is clipped.

    Every update then has the length ``max_norm``, which cuts the learning rate by the mean clip
    coefficient. Silent where the loss falls all the same, or is low already. Batches that were not
    applied do not count.
    """
    n = SATURATION_WINDOW
    if len(window) < n or window.step_at(-1) + 1 < SATURATION_AFTER or window.warming_up(n):
        return None
    applied = window.newest_outcome(Outcome.APPLIED, n)
    coef = window.newest("clip_coef", n)[applied]
    if len(coef) < n * FEW_UPDATES_SHARE:
        return None
    clipped = coef < 1
    factor = float(coef.mean())
    before, after = halves(window.newest("loss_per_gloss", n))
    learning = after < (1 - SATURATION_FALL) * before or after < LOW_LOSS
    if clipped.mean() <= SATURATION_SHARE or factor >= SATURATION_COEF or learning:
        return None
    norms = window.newest("grad_norm_pre", n)[applied]
    lr = float(window.newest("lr", 1)[0])
    return Finding(
        FindingKind.CLIP_SATURATION,
        Severity.NOTICE,
        f"Clipping is permanent and keeps {factor:.2g} of each gradient",
        f"{int(clipped.sum())} of the last {len(coef)} updates were clipped; their norms were "
        f"{span(norms)}. The mean clip coefficient is {factor:.3g}: for plain gradient descent the "
        f"learning rate {lr:.2g} acts like {lr * factor:.2g}. Meanwhile the loss per gloss went from "
        f"{before:.3g} to {after:.3g}.",
        "AdamW divides by its own running norms, so it loses less than that, but batches with small and "
        "with large gradients now count alike. Raise max_norm towards the usual norm "
        f"(about {median(norms):.2g}), or raise lr.",
        window.step_at(lasting_since(window.newest("clip_coef") < 1, n)),
    )


VANISHING_WINDOW = 50
VANISHING_RATIO = 1e-4
"""Norm over loss. The gradient at the output layer's bias alone is the number of frames given to the
wrong class, so it is about as large as the loss; healthy runs have ratios from 0.1 to 7, at the
all-blank plateau too. A thousandth of the least of those is out of any healthy run's reach."""


def vanishing_gradients(window: StepWindow) -> Finding | None:
    """Speak when there is loss left but no gradient: something cuts the way back to the weights."""
    n = VANISHING_WINDOW
    if len(window) < n:
        return None
    loss, norms = window.newest("loss"), window.newest("grad_norm_pre")
    known = np.isfinite(loss) & np.isfinite(norms) & (loss > 0)
    small = known & (norms < VANISHING_RATIO * np.where(known, loss, 0.0))
    level = median(window.newest("loss_per_gloss", n))
    # Norms of 0 count, norms that do not exist do not.
    if small[-n:].mean() <= 0.5 or not level > LOW_LOSS:
        return None
    return Finding(
        FindingKind.VANISHING_GRADIENTS,
        Severity.CRITICAL,
        "The gradients have vanished while the loss has not",
        f"The median gradient norm of the last {n} batches is {median(norms[-n:]):.2g} at a loss of "
        f"{median(loss[-n:]):.3g} ({level:.2g} per gloss); a norm below {VANISHING_RATIO:g} of the loss "
        f"was found in {int(small[-n:].sum())} of them.",
        "Something between the loss and the weights is cut off, scaled away or saturated. Look for "
        "detached or frozen layers and for a tiny loss scale, and lower lr if it began in mid-run.",
        window.step_at(lasting_since(small, n)),
    )


def _longest_run(chosen: Bools) -> tuple[int, int]:
    """Give where the longest run of True begins and its length; the latest one among equals."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    firsts, ends = edges[::2], edges[1::2]
    if not len(firsts):
        return 0, 0
    lengths = ends - firsts
    place = len(lengths) - 1 - int(np.argmax(lengths[::-1]))
    return int(firsts[place]), int(lengths[place])


def _run_to_name(missed: Bools) -> tuple[int, int]:
    """Give (first, length) of the run that lasts until now when it is long enough, else of the longest."""
    if len(missed) and missed[-LATCH_BATCHES:].all():
        first = _trailing_start(missed)
        return first, len(missed) - first
    return _longest_run(missed)


def _trailing_start(chosen: Bools) -> int:
    """Give where the run of True that reaches the end begins; the last index when the end is False."""
    misses = np.flatnonzero(~chosen)
    first = int(misses[-1]) + 1 if len(misses) else 0
    return min(first, len(chosen) - 1)
