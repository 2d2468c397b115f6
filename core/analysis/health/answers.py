"""Whether the teacher answers at all: blanks that outlast the beginning, and the verdict at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from core.analysis.health.findings import Finding, FindingKind, Severity
from core.analysis.health.measures import halves, lasting_since, median
from core.analysis.health.window import StepWindow
from signscope.records import EpochRecord, Evaluation

BLANK_WINDOW = 300
BLANK_SHARE = 0.98
"""A trained recogniser is blank in 0.1 to 0.95 of its frames, because CTC marks a gloss with one or two."""
BLANK_LENGTH = 0.2
"""Glosses recognised for each gloss that is there; healthy runs pass 0.5 as soon as they learn. One
gloss for every sentence, whatever was signed, is 0.1 to 0.15."""
BLANK_LOSS = 1.0
"""In nats per gloss: far above what a recogniser has that answers at all."""
FLAT_SHARE = 0.05

BLANK_PATIENCE = 1000
"""Every CTC run begins by answering blank to everything, its loss all but flat: until batch 52 to 445 in 43
runs that learned (the demo with its shipped settings: 252 to 445). Twice the longest."""
BLANK_PATIENCE_SHARE = 0.1
"""Of its schedule: a run that is planned for longer, for a larger corpus, may take longer."""
LATE_SHARE = 0.75
"""Of its schedule. From here on a sinking learning rate will not help a teacher that answers nothing."""
LEARNED_WER = 0.5
"""Below it an evaluation tells of learning. Untrained weights reach 0.6 with few glosses, by chance."""


def answers_nothing(window: StepWindow, epochs: Sequence[EpochRecord], batches: int) -> bool:
    """Tell whether next to no glosses were recognised of late.

    Either the latest evaluation within the last ``batches`` batches recognised less than BLANK_LENGTH of
    the glosses' number or, where there was none, blank was the answer in more than BLANK_SHARE of all
    frames of these batches.
    """
    if not len(window):
        return False
    first = max(0, len(window) - batches)
    dev = _latest_dev(epochs, since=int(window.recent["epoch"][first]))
    return _mute(dev, _blank(window, batches))


def blank_collapse(
    window: StepWindow, epochs: Sequence[EpochRecord], total: int | None = None
) -> Finding | None:
    """Speak when the teacher answers next to nothing for longer than a healthy run's beginning.

    Its loss is flat, too (over the last BLANK_WINDOW batches it fell by less than FLAT_SHARE), and the run
    had its time: BLANK_PATIENCE batches, and BLANK_PATIENCE_SHARE of its ``total`` batches, unless it had
    learned before. With LATE_SHARE of ``total`` over, a loss that still falls is no excuse.
    """
    n = BLANK_WINDOW
    if len(window) < n or window.warming_up(n) or not answers_nothing(window, epochs, n):
        return None
    before, after = halves(window.newest("loss_per_gloss", n))
    done = window.step_at(-1) + 1
    late = total is not None and done >= LATE_SHARE * total
    flat = after >= (1 - FLAT_SHARE) * before
    # An evaluation is an epoch old at times, and the teacher may have begun to answer since.
    blank_still = _blank(window, NOTHING_WINDOW) > BLANK_SHARE
    patience = max(BLANK_PATIENCE, BLANK_PATIENCE_SHARE * (total or 0))
    had_its_time = late or done >= patience or _has_learned(epochs)
    if not ((flat and had_its_time) or (blank_still and late)) or not after > BLANK_LOSS:
        return None
    length = _heard(_latest_dev(epochs, since=int(window.recent["epoch"][-n])))
    heard = f", and {length:.0%} as many glosses as there are" if math.isfinite(length) else ""
    when = f" {done} of {total} batches are done." if late else ""
    return Finding(
        FindingKind.BLANK_COLLAPSE,
        Severity.WARNING,
        "The teacher answers blank to everything, and its loss is flat"
        if flat
        else "The teacher still answers blank to everything, late in its schedule",
        f"Over the last {n} batches it answered blank in {_blank(window, n):.1%} of all frames{heard}. "
        f"The loss per gloss was {before:.3g} in their first half, {after:.3g} in their second.{when}",
        f"A phase of blanks at the start is normal for CTC, but this one lasts. {_ADVICE}",
        window.step_at(lasting_since(window.newest("blank_fraction") > BLANK_SHARE - 0.1, n)),
    )


_ADVICE = (
    "Try a higher lr or a longer warm-up, shorter sentences or fewer glosses to begin with, smaller "
    "strides, and check that glosses and landmarks belong together."
)

NOTHING_WER = 0.95
NOTHING_WINDOW = 50
LOSS_FELL = 0.1
"""Runs that learn lose more than half of their first loss within 50 batches, before their first answers."""


def learned_nothing(window: StepWindow, epochs: Sequence[EpochRecord]) -> Finding | None:
    """Speak of a run that is over when its teacher recognises nothing. Only for finished runs.

    That is so when the last evaluation has a WER of NOTHING_WER or more or recognised less than
    BLANK_LENGTH of the glosses' number (one gloss for every sentence gives a WER below 90 %); when,
    without evaluations, the batches were answered with blanks; or when the loss is high and fell by
    less than LOSS_FELL over the whole run, whatever was recognised by chance.
    """
    n = min(NOTHING_WINDOW, len(window))
    if not n:
        return None
    dev = _latest_dev(epochs, since=0)
    start, now = window.start_loss_per_gloss(), median(window.newest("loss_per_gloss", n))
    batches, blank = window.step_at(-1) + 1, _blank(window, n)
    unmoved = batches >= 2 * n and now > max(BLANK_LOSS, (1 - LOSS_FELL) * start)
    mute = _mute(dev, blank)
    wrong = dev is not None and dev.errors.wer >= NOTHING_WER
    if not (unmoved or mute or wrong):
        return None
    evidence = (
        f"After {batches} batches {_recognised(dev)}, and the last {n} batches were answered with blank in "
        f"{blank:.1%} of their frames. The loss per gloss went from {start:.3g} to {now:.3g}."
    )
    outcome = _outcome(dev, blank, mute=mute)
    if _has_learned(epochs):
        best = min(e.dev.errors.wer for e in epochs if e.dev is not None)
        title = f"The teacher lost what it had learned: {outcome}"
        evidence += f" At its best the WER was {best:.1%}."
        advice = "Resume from the best checkpoint with a lower lr."
    else:
        title = f"The teacher learned nothing: {outcome}"
        short = batches < BLANK_PATIENCE and not unmoved
        advice = f"{_SHORT_ADVICE if short else ''}{_ADVICE}"
    return Finding(FindingKind.LEARNED_NOTHING, Severity.CRITICAL, title, evidence, advice)


_SHORT_ADVICE = "Sound runs begin to answer after 100 to 500 batches: if this one had fewer, train more epochs. "


def _recognised(dev: Evaluation | None) -> str:
    if dev is None:
        return "nothing was evaluated"
    return (
        f"the WER on the dev split is {dev.errors.wer:.1%}, with {_heard(dev):.0%} as many glosses as "
        "there are"
    )


def _outcome(dev: Evaluation | None, blank: float, *, mute: bool) -> str:
    answers = "all blank" if blank > BLANK_SHARE else "hardly an answer"
    parts = [
        *([f"WER {100 * dev.errors.wer:.0f} %"] if dev is not None else []),
        answers if mute else "answers as if by chance",
    ]
    return ", ".join(parts)


def _has_learned(epochs: Sequence[EpochRecord]) -> bool:
    return any(e.dev is not None and e.dev.errors.wer < LEARNED_WER for e in epochs)


def _blank(window: StepWindow, batches: int) -> float:
    """Mean share of blank frames in the last batches; NaN when it is not known."""
    blanks = window.newest("blank_fraction", batches)
    return float(np.nanmean(blanks)) if np.isfinite(blanks).any() else math.nan


def _latest_dev(epochs: Sequence[EpochRecord], since: int) -> Evaluation | None:
    """The latest evaluation of an epoch from ``since`` on that had something to recognise."""
    for record in reversed(epochs):
        if record.epoch < since:
            break
        if record.dev is not None and record.dev.errors.reference_glosses:
            return record.dev
    return None


def _mute(dev: Evaluation | None, blank: float) -> bool:
    return blank > BLANK_SHARE if dev is None else _heard(dev) < BLANK_LENGTH


def _heard(dev: Evaluation | None) -> float:
    """Glosses recognised for each gloss that was there; NaN without an evaluation."""
    return math.nan if dev is None else dev.errors.hypothesis_glosses / dev.errors.reference_glosses
