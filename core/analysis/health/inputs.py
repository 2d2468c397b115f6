"""Whether the landmarks are what the teacher expects: raw, whole, and the same in training and preview."""

from __future__ import annotations

import math

from core.analysis.health.findings import Finding, FindingKind, Severity
from core.landmarks.input_statistics import InputStatistics

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
