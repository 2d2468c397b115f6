"""Detectors: what a person should look at in a run, with the numbers that say so.

Each detector is a small pure function over what the ledger keeps: the columns of the steps, the
epochs, the statistics of the input. It gives one :class:`Finding` or None, stops nothing, and stays
silent on a run that does well. Large norms, 100 % clipping and a phase of blanks are how a healthy
run of CTC begins; a detector speaks of them only when they outlast that beginning.

Free of torch; :func:`assess` takes well under a millisecond and may be called in any thread.

Every threshold stands beside the reason for it. Figures "of healthy runs" are from the demo corpus
and from real clips spliced into sentences of 6 to 10 signs, with the default settings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from core.landmarks.input_statistics import InputStatistics
from signscope.curve_columns import OUTCOMES, AnyArray, columns_of
from signscope.records import EpochRecord, Outcome, StepRecord

LOOK_BACK = 5000
"""Newest batches that the detectors are given; none needs more."""

START_BATCHES = 10
"""First batches of a run that say where its loss began; one batch alone may be half or twice that,
by the length of its sentences."""

LOW_LOSS = 0.5
"""In nats per gloss: below it the usual gloss has a probability above 0.6. Gradients may be small and
curves flat there, because little is left to learn."""

COLUMNS = (
    "step",
    "epoch",
    "loss",
    "loss_per_gloss",
    "grad_norm_pre",
    "clip_coef",
    "lr",
    "blank_fraction",
    "data_s",
    "step_s",
    "outcome",
)
"""Columns that the detectors read, named and coded as in ``signscope.curve_columns``."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class FindingKind(StrEnum):
    """What a finding is about. A run has at most one finding of each kind."""

    DOUBLE_NORMALIZATION = "double_normalization"
    MISSING_LANDMARKS = "missing_landmarks"
    LANDMARK_MISMATCH = "landmark_mismatch"
    LATCHED = "latched"
    DIVERGENCE = "divergence"
    VANISHING_GRADIENTS = "vanishing_gradients"
    BLANK_COLLAPSE = "blank_collapse"
    PLATEAU = "plateau"
    CLIP_SATURATION = "clip_saturation"
    DATA_STARVATION = "data_starvation"


class Severity(StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"  # the run cannot succeed like this
    WARNING = "warning"  # the run probably does worse than it could
    NOTICE = "notice"  # worth knowing, may be intended


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should look at."""

    kind: FindingKind
    severity: Severity
    title: str  # one sentence without its full stop
    evidence: str  # the numbers that say so, full sentences
    what_to_do: str  # full sentences
    first_step: int | None = None  # batch at which it began; None when it is about no batch

    @property
    def text(self) -> str:
        """The whole finding as one paragraph."""
        since = "" if self.first_step is None else f" Since batch {self.first_step}."
        return f"{self.title}. {self.evidence}{since} {self.what_to_do}"


@dataclass(frozen=True, slots=True)
class StepWindow:
    """The first and the newest batches of a run as columns.

    ``start`` holds up to START_BATCHES batches from step 0 on, and none when the beginning of the run
    is not known (a window that was opened on a resumed run); ``recent`` ends with the newest batch.
    Both map each of COLUMNS to an array, with equal lengths within each.
    """

    start: Mapping[str, AnyArray]
    recent: Mapping[str, AnyArray]

    @classmethod
    def of(cls, columns: Mapping[str, AnyArray], look_back: int = LOOK_BACK) -> Self:
        """Take what the detectors need out of the columns of a whole run; copies nothing."""
        steps = columns["step"]
        known = START_BATCHES if len(steps) and steps[0] == 0 else 0
        return cls(
            {name: columns[name][:known] for name in COLUMNS},
            {name: columns[name][-look_back:] for name in COLUMNS},
        )

    @classmethod
    def of_records(cls, records: Sequence[StepRecord]) -> Self:
        """Take what the detectors need out of records, oldest first."""
        return cls.of(columns_of(records))

    def __len__(self) -> int:
        return len(self.recent["step"])

    def newest(self, name: str, batches: int | None = None) -> Floats:
        """Give the last ``batches`` values (all without it) of a column as float64."""
        values = self.recent[name] if batches is None else self.recent[name][-batches:]
        return values.astype(np.float64)

    def newest_outcome(self, outcome: Outcome, batches: int | None = None) -> Bools:
        """Tell for each of the last ``batches`` batches whether it ended with ``outcome``."""
        codes = self.recent["outcome"] if batches is None else self.recent["outcome"][-batches:]
        chosen: Bools = codes == OUTCOMES.index(outcome)
        return chosen

    def step_at(self, index: int) -> int:
        """Give the number of the batch at ``index`` of ``recent``; negative counts from its end."""
        return int(self.recent["step"][index])

    def start_loss_per_gloss(self) -> float:
        """Loss per gloss of the first batches; NaN when they are not known.

        The lower of their median, which evens out the lengths of sentences, and the very first, which
        no update has touched yet.
        """
        losses = self.start["loss_per_gloss"].astype(np.float64)
        return min(_median(losses), _median(losses[:1]), key=_nan_last)


def assess(
    window: StepWindow,
    epochs: Sequence[EpochRecord] = (),
    inputs: InputStatistics | None = None,
    preview: InputStatistics | None = None,
) -> tuple[Finding, ...]:
    """Give all findings of a run, the gravest first.

    Args:
        window: Its batches.
        epochs: Its finished epochs, oldest first.
        inputs: What its input looked like at the start, where that was measured.
        preview: What the camera preview shows, where it is on.
    """
    diverged = divergence(window)
    blank = blank_collapse(window, epochs)
    found = (
        double_normalization(inputs) if inputs else None,
        missing_landmarks(inputs) if inputs else None,
        landmark_mismatch(inputs, preview) if inputs else None,
        latched(window),
        diverged,
        vanishing_gradients(window),
        blank,
        # Flat for a reason that is named already.
        plateau(window, epochs) if not (diverged or blank) else None,
        clip_saturation(window),
        data_starvation(window),
    )
    order = list(Severity)
    return tuple(
        sorted(
            (finding for finding in found if finding is not None),
            key=lambda finding: order.index(finding.severity),
        )
    )


# ---------------------------------------------------------------- updates

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
    told = f" Their gradient norms were {_span(finite)}." if len(finite) else ""
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
    if len(window) < n or window.step_at(-1) + 1 < SATURATION_AFTER or _warming_up(window, n):
        return None
    applied = window.newest_outcome(Outcome.APPLIED, n)
    coef = window.newest("clip_coef", n)[applied]
    if len(coef) < n * FEW_UPDATES_SHARE:
        return None
    clipped = coef < 1
    factor = float(coef.mean())
    before, after = _halves(window.newest("loss_per_gloss", n))
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
        f"{_span(norms)}. The mean clip coefficient is {factor:.3g}: for plain gradient descent the "
        f"learning rate {lr:.2g} acts like {lr * factor:.2g}. Meanwhile the loss per gloss went from "
        f"{before:.3g} to {after:.3g}.",
        "AdamW divides by its own running norms, so it loses less than that, but batches with small and "
        "with large gradients now count alike. Raise max_norm towards the usual norm "
        f"(about {_median(norms):.2g}), or raise lr.",
        window.step_at(_lasting_since(window.newest("clip_coef") < 1, n)),
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
    level = _median(window.newest("loss_per_gloss", n))
    # Norms of 0 count, norms that do not exist do not.
    if small[-n:].mean() <= 0.5 or not level > LOW_LOSS:
        return None
    return Finding(
        FindingKind.VANISHING_GRADIENTS,
        Severity.CRITICAL,
        "The gradients have vanished while the loss has not",
        f"The median gradient norm of the last {n} batches is {_median(norms[-n:]):.2g} at a loss of "
        f"{_median(loss[-n:]):.3g} ({level:.2g} per gloss); a norm below {VANISHING_RATIO:g} of the loss "
        f"was found in {int(small[-n:].sum())} of them.",
        "Something between the loss and the weights is cut off, scaled away or saturated. Look for "
        "detached or frozen layers and for a tiny loss scale, and lower lr if it began in mid-run.",
        window.step_at(_lasting_since(small, n)),
    )


# ---------------------------------------------------------------- loss

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
    losses = _non_finite_as_infinite(window.newest("loss_per_gloss"))
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
        window.step_at(_lasting_since(losses > limit, n)),
    )


BLANK_WINDOW = 300
"""Every CTC run begins by answering blank to everything. Healthy runs leave that after 50 to 250
batches, their loss falling before their first answers; all of that must be over."""
BLANK_SHARE = 0.98
"""A trained recogniser is blank in 0.7 to 0.95 of its frames, because CTC marks a gloss with one or two."""
BLANK_LENGTH = 0.2
"""Glosses recognised for each gloss that is there; healthy runs pass 0.5 as soon as they learn."""
BLANK_LOSS = 1.0
"""In nats per gloss: far above what a recogniser has that answers at all."""
FLAT_SHARE = 0.05


def blank_collapse(window: StepWindow, epochs: Sequence[EpochRecord]) -> Finding | None:
    """Speak when the teacher keeps answering blank to everything and the loss does not fall.

    Over the last BLANK_WINDOW batches the loss per gloss fell by less than FLAT_SHARE, and either the
    latest evaluation recognised less than BLANK_LENGTH of the glosses' number or, where there was
    none in that time, blank was the answer in more than BLANK_SHARE of all frames.
    """
    n = BLANK_WINDOW
    if len(window) < n or _warming_up(window, n):
        return None
    before, after = _halves(window.newest("loss_per_gloss", n))
    blanks = window.newest("blank_fraction")
    blank = float(np.nanmean(blanks[-n:])) if np.isfinite(blanks[-n:]).any() else math.nan
    length = _hypothesis_length(epochs, since=int(window.recent["epoch"][-n]))
    silent = length < BLANK_LENGTH if math.isfinite(length) else blank > BLANK_SHARE
    if not silent or not after > BLANK_LOSS or after < (1 - FLAT_SHARE) * before:
        return None
    heard = f", and {length:.0%} as many glosses as there are" if math.isfinite(length) else ""
    return Finding(
        FindingKind.BLANK_COLLAPSE,
        Severity.WARNING,
        "The teacher answers blank to everything, and its loss is flat",
        f"Over the last {n} batches it answered blank in {blank:.1%} of all frames{heard}. The loss is "
        f"flat at the all-blank plateau: {before:.3g} per gloss in their first half, {after:.3g} in their "
        "second.",
        "A phase of blanks at the start is normal for CTC, but this one lasts. Try a higher lr or a longer "
        "warm-up, shorter sentences or fewer glosses to begin with, smaller strides, and check that "
        "glosses and landmarks belong together.",
        window.step_at(_lasting_since(blanks > BLANK_SHARE - 0.1, n)),
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
    if len(window) < n or _warming_up(window, n):
        return None
    lr = window.newest("lr")
    before, after = _halves(window.newest("loss_per_gloss", n))
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


# ---------------------------------------------------------------- input

STARVATION_WINDOW = 100
STARVATION_SHARE = 0.5
"""Waiting half as long as computing is a third of the time lost. Healthy runs wait for less than 10 %."""
STARVATION_LEAST_S = 1e-3
"""Below a millisecond a batch there is nothing to gain; a hand-over between threads may take that."""


def data_starvation(window: StepWindow) -> Finding | None:
    """Speak when the trainer waits for most of its batches.

    Most, because the first batch of each epoch always waits and one hiccup of the disk may too.
    """
    n = STARVATION_WINDOW
    if len(window) < n:
        return None
    waited, worked = window.newest("data_s"), window.newest("step_s")
    waiting = waited > np.maximum(STARVATION_LEAST_S, STARVATION_SHARE * worked)
    if waiting[-n:].mean() <= 0.5:
        return None
    data_s, step_s = _median(waited[-n:]), _median(worked[-n:])
    share = data_s / (data_s + step_s)
    return Finding(
        FindingKind.DATA_STARVATION,
        Severity.WARNING,
        f"Training waits for data {share:.0%} of the time",
        f"In the last {n} batches the median wait for a batch was {1000 * data_s:.1f} ms, the median step "
        f"{1000 * step_s:.1f} ms; {int(waiting[-n:].sum())} of them waited for more than half a step.",
        "Keep the corpus on a local disk, raise prefetch (0 prepares batches in line), weaken "
        "augmentation, or leave more cores to the program.",
        window.step_at(_lasting_since(waiting, n)),
    )


GAP_LIMIT = 0.05
"""In shoulder widths. Normalising what is normalised already changes it by 0.00, raw landmarks by 0.7
to 1.0."""
NEGATIVE_LIMIT = 0.25
"""x and y of raw landmarks are fractions of the image: below 0 are less than 0.2 % of them. Around an
origin on the body about half are."""


def double_normalization(inputs: InputStatistics) -> Finding | None:
    """Speak when what is about to be normalised has been normalised before, by SignScope or otherwise."""
    again = inputs.normalization_gap < GAP_LIMIT
    centred = inputs.negative_share > NEGATIVE_LIMIT
    if not (again or centred):
        return None
    return Finding(
        FindingKind.DOUBLE_NORMALIZATION,
        Severity.CRITICAL,
        "The landmarks were normalised before they are normalised",
        f"Normalising changes x and y by {inputs.normalization_gap:.3g} shoulder widths on average (raw "
        f"landmarks: 0.7 to 1.0), and {inputs.negative_share:.0%} of x and y are negative (raw: under "
        f"1 %), in {inputs.frames} frames of {inputs.samples} samples.",
        "Import or record the landmarks again, raw, x and y as fractions of the image. SignScope "
        "normalises once, at batch time.",
        0,
    )


SHOULDERS_LEAST = 0.5
"""Recordings of one person facing the camera have shoulders in every frame."""


def missing_landmarks(inputs: InputStatistics) -> Finding | None:
    """Speak when most frames are empty to the teacher, because they cannot be normalised."""
    if not inputs.shoulders_share < SHOULDERS_LEAST:
        return None
    return Finding(
        FindingKind.MISSING_LANDMARKS,
        Severity.CRITICAL,
        "Most frames have no shoulders, so the teacher sees nothing in them",
        f"Both shoulders are present in {inputs.shoulders_share:.0%} of {inputs.frames} frames of "
        f"{inputs.samples} samples; the left hand in {inputs.left_share:.0%}, the right in "
        f"{inputs.right_share:.0%}.",
        "Look at some recordings: the signer's shoulders must be in the picture. Import or record them "
        "again.",
        0,
    )


FACING_GAP = 0.5
OWN_SIDE_LIMIT = 0.5
"""Hands lie nearer to their own wrist in 0.98 to 1.00 of the frames of real recordings (0.89 in the
worst signer), to the other when left and right are exchanged."""
HAND_GAP = 0.6
"""Raised hands are found in 0.98 to 1.00 of the frames of recordings, in fewer when they move fast."""
HEIGHT_FACTOR = 1.6
"""The nose is 0.87 to 1.42 shoulder widths up, by signer and by the shape of the image. A landscape
image stored as portrait changes it at least 1.8 times."""
PREVIEW_FRAMES = 90
"""Three seconds of a camera: fewer frames say little."""


def landmark_mismatch(
    training: InputStatistics, preview: InputStatistics | None = None
) -> Finding | None:
    """Speak when training and preview cannot mean the same by the same landmarks.

    Compared are things that do not depend on who signs what: which way the body faces, whether hands
    belong to their own arms, whether raised hands are found, the shape of the upper body after
    normalisation, and whether either is normalised already. Hands on the wrong arms are told of
    training alone, too. Preview counts from PREVIEW_FRAMES frames on.
    """
    faults = [_hands_exchanged("training", training)]
    if preview is not None and preview.frames >= PREVIEW_FRAMES:
        faults += [
            _hands_exchanged("the preview", preview),
            _mirrored_apart(training, preview),
            _hands_lost(training, preview),
            _other_shape(training, preview),
            _normalized_apart(training, preview),
        ]
    told = [fault for fault in faults if fault]
    if not told:
        return None
    return Finding(
        FindingKind.LANDMARK_MISMATCH,
        Severity.WARNING,
        "Preview and training disagree about landmarks"
        if preview is not None
        else "Left and right hands seem to be exchanged",
        " ".join(told),
        "Check the mirror switch of the preview and the mirror flag of the recordings, and that both come "
        "through SignScope's own detector or importer.",
    )


def _hands_exchanged(whose: str, found: InputStatistics) -> str:
    if not found.own_side_share < OWN_SIDE_LIMIT:
        return ""
    return (
        f"In {whose} only {found.own_side_share:.0%} of the hands lie nearer to their own wrist than to "
        "the other: left and right are exchanged."
    )


def _mirrored_apart(training: InputStatistics, preview: InputStatistics) -> str:
    if not abs(training.facing_share - preview.facing_share) > FACING_GAP:
        return ""
    return (
        f"The left shoulder is on the right of the image in {training.facing_share:.0%} of the training "
        f"frames and in {preview.facing_share:.0%} of the preview: one of them is mirrored without its "
        "sides being exchanged."
    )


def _hands_lost(training: InputStatistics, preview: InputStatistics) -> str:
    if preview.raised_frames < PREVIEW_FRAMES:
        return ""
    if not training.raised_hand_share - preview.raised_hand_share > HAND_GAP:
        return ""
    return (
        f"With an arm raised a hand is found in {training.raised_hand_share:.0%} of the training frames, "
        f"but in {preview.raised_hand_share:.0%} of the preview."
    )


def _other_shape(training: InputStatistics, preview: InputStatistics) -> str:
    ratio = preview.nose_height / training.nose_height if training.nose_height else math.nan
    if not (ratio > HEIGHT_FACTOR or ratio < 1 / HEIGHT_FACTOR):
        return ""
    return (
        f"The nose is {training.nose_height:.2f} shoulder widths above the shoulders in training and "
        f"{preview.nose_height:.2f} in the preview: the images differ in shape (width to height), or one "
        "is turned."
    )


def _normalized_apart(training: InputStatistics, preview: InputStatistics) -> str:
    if (double_normalization(training) is None) == (double_normalization(preview) is None):
        return ""
    return (
        f"Normalising changes training by {training.normalization_gap:.2g} and the preview by "
        f"{preview.normalization_gap:.2g} shoulder widths: one of them is normalised already."
    )


# ---------------------------------------------------------------- a run on disk


def assess_run(run: Path) -> tuple[Finding, ...]:
    """Give the findings of the run in folder ``run``, from its ledger; also while it is being trained.

    Reads the first START_BATCHES and the newest RUN_LOOK_BACK batches.

    Raises:
        LedgerError: The ledger is missing, damaged, or of another format.
    """
    from signscope.folder import RunFolder
    from signscope.reader import LedgerReader

    with LedgerReader(RunFolder(run).ledger_path) as reader:
        last = reader.last_step()
        newest = 0 if last is None else max(0, last + 1 - RUN_LOOK_BACK)
        stored = reader.meta().get(INPUTS_META)
        window = StepWindow(
            columns_subset(reader.steps(0, START_BATCHES - 1)),
            columns_subset(reader.steps(newest)),
        )
        return assess(window, reader.epochs(), _read_inputs(stored))


def report_lines(findings: Sequence[Finding], batches: int) -> list[str]:
    """Give findings as text for a terminal: one line each, or one that says that there are none."""
    if not findings:
        return [f"Health: no problems found in {batches} batches"]
    return [f"Health, {finding.severity}: {finding.text}" for finding in findings]


RUN_LOOK_BACK = 50_000
"""Newest batches of a finished run that are assessed: about half a second to read."""

INPUTS_META = "inputs"
"""Key of the input statistics among the facts of a ledger."""


def columns_subset(records: Sequence[StepRecord]) -> dict[str, AnyArray]:
    """Give COLUMNS of ``records``."""
    columns = columns_of(records)
    return {name: columns[name] for name in COLUMNS}


def _read_inputs(text: str | None) -> InputStatistics | None:
    """Statistics of another version of the program are as good as none."""
    if text is None:
        return None
    try:
        return InputStatistics.from_json(text)
    except (ValueError, TypeError):
        return None


# ---------------------------------------------------------------- numbers


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _span(values: Floats) -> str:
    return f"{values.min():.3g} to {values.max():.3g}, median {np.median(values):.3g}"


def _halves(values: Floats) -> tuple[float, float]:
    middle = len(values) // 2
    return _median(values[:middle]), _median(values[middle:])


def _non_finite_as_infinite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.inf)


def _warming_up(window: StepWindow, batches: int) -> bool:
    """Whether the learning rate still rose within the last ``batches`` batches."""
    lr = window.newest("lr", batches)
    return bool(lr[0] < lr.max())


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


def _hypothesis_length(epochs: Sequence[EpochRecord], since: int) -> float:
    """Glosses recognised for each gloss in the latest evaluation; NaN for none from epoch ``since`` on."""
    for record in reversed(epochs):
        if record.epoch < since:
            break
        if record.dev is not None and record.dev.errors.reference_glosses:
            return record.dev.errors.hypothesis_glosses / record.dev.errors.reference_glosses
    return math.nan


def _trailing_start(chosen: Bools) -> int:
    """Give where the run of True that reaches the end begins; the last index when the end is False."""
    misses = np.flatnonzero(~chosen)
    first = int(misses[-1]) + 1 if len(misses) else 0
    return min(first, len(chosen) - 1)


def _lasting_since(chosen: Bools, window: int) -> int:
    """Give where the state that ``chosen`` tells of began, when single batches may miss it.

    From the end backwards as long as most batches of ten are True, and at least to the start of the
    last ``window`` batches, which the caller found to be of that state; then on to the first True.
    """
    tens = chosen[len(chosen) % 10 :].reshape(-1, 10).mean(axis=1) > 0.5
    misses = np.flatnonzero(~tens)
    begin = len(chosen) % 10 + 10 * (int(misses[-1]) + 1) if len(misses) else 0
    begin = min(begin, max(0, len(chosen) - window))
    return begin + int(np.argmax(chosen[begin:]))
