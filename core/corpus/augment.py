"""Random changes to training sentences, on raw landmarks, before the one normalisation."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from core.config import AugmentConfig
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_SHOULDER,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    Float32Array,
    X,
    Y,
    Z,
    mirror,
)

UNKNOWN_ASPECT: Final = 4 / 3
"""Width over height assumed for rotation where a recording does not say; most webcams' own."""

_TEMPO_KNOT_FRAMES = 25
_LONGEST_HIDDEN_SHARE = 1 / 6

Positions = npt.NDArray[np.float64]


def augment(
    landmarks_TKC: Float32Array,
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    min_frames: int = 1,
    aspect: float | None = None,
) -> Float32Array:
    """Give a changed copy of raw landmarks; the input is left as it is.

    Args:
        landmarks_TKC: (T, 75, 4) raw, NaN where missing.
        config: How much of what.
        rng: The only source of randomness; the same state gives the same bits.
        min_frames: The result has at least this many frames (or T, when that is fewer), so that CTC
            can still align it.
        aspect: Width over height of the image.

    Returns:
        (T', 75, 4) float32. Points that were missing stay missing (on the other side when mirrored);
        more may be.
    """
    floor = min(min_frames, len(landmarks_TKC))
    positions_T = drop_frames(
        tempo_positions(len(landmarks_TKC), config.tempo, rng, floor),
        config.frame_dropout,
        rng,
        floor,
    )
    changed_TKC = resample(landmarks_TKC, positions_T)
    if rng.random() < config.mirror:
        changed_TKC = mirror(changed_TKC)
    angle = np.radians(config.rotation_deg) * rng.uniform(-1, 1)
    stretch = 1 + config.scale * rng.uniform(-1, 1, 2)
    transform_(changed_TKC, float(angle), (float(stretch[0]), float(stretch[1])), aspect)
    for hand in (LEFT_HAND, RIGHT_HAND):
        if rng.random() < config.hand_dropout:
            hide_stretch_(changed_TKC, hand, rng)
    return changed_TKC


def tempo_positions(
    frames: int, tempo: float, rng: np.random.Generator, min_frames: int = 1
) -> Positions:
    """Give rising positions in 0..frames-1 at which to sample a sentence at another tempo.

    Half of the change holds for the whole sentence, half wanders; at no place is the tempo changed by
    more than the share ``tempo``. There are at least ``min_frames`` positions.
    """
    knots = np.arange(0, frames + _TEMPO_KNOT_FRAMES, _TEMPO_KNOT_FRAMES)
    wander = np.interp(np.arange(frames), knots, rng.uniform(-1, 1, len(knots)))
    speed_T = 1 + tempo * (0.5 * rng.uniform(-1, 1) + 0.5 * wander)
    when_T = np.concatenate([[0.0], np.cumsum(2 / (speed_T[1:] + speed_T[:-1]))])
    count = max(round(when_T[-1]) + 1, min_frames)
    return np.interp(np.linspace(0, when_T[-1], count), when_T, np.arange(frames))


def drop_frames(
    positions_T: Positions, share: float, rng: np.random.Generator, min_frames: int = 1
) -> Positions:
    """Leave out each position with probability ``share``, keeping at least ``min_frames`` of them."""
    count = len(positions_T)
    dropped = min(int(rng.binomial(count, share)), max(count - max(min_frames, 1), 0))
    return positions_T[np.sort(rng.permutation(count)[dropped:])]


def resample(landmarks_TKC: Float32Array, positions_T: Positions) -> Float32Array:
    """Give landmarks at fractional frames, new (len(positions_T), 75, 4) float32.

    Between two frames that both have a point it is interpolated linearly; where one of them misses
    it, the nearer frame decides, so missing points are neither filled in nor spread.
    """
    below_T = np.floor(positions_T).astype(np.intp)
    above_T = np.minimum(below_T + 1, len(landmarks_TKC) - 1)
    weight_T11 = (positions_T - below_T).astype(np.float32)[:, None, None]
    below_TKC = landmarks_TKC[below_T]
    mixed_TKC = below_TKC + weight_T11 * (landmarks_TKC[above_T] - below_TKC)
    nearest_TKC = landmarks_TKC[np.where(positions_T - below_T < 0.5, below_T, above_T)]
    resampled: Float32Array = np.where(np.isnan(mixed_TKC), nearest_TKC, mixed_TKC)
    return resampled


def transform_(
    landmarks_TKC: Float32Array,
    angle: float,
    stretch: tuple[float, float],
    aspect: float | None = None,
) -> None:
    """Rotate by ``angle`` radians and stretch x and y, in place, about the middle of the shoulders.

    Rotation is in square pixels, hence ``aspect``. Normalisation takes away size as such; what stays
    of the two stretches is their difference. z, in the scale of x, is stretched with x. The middle is
    the mean over the sentence, so that movements of the body stay.
    """
    shoulders_C = landmarks_TKC[:, [LEFT_SHOULDER, RIGHT_SHOULDER], :Z].reshape(-1, 2)
    shoulders_C = shoulders_C[np.isfinite(shoulders_C).all(axis=1)]
    centre_C = shoulders_C.mean(axis=0) if len(shoulders_C) else np.full(2, 0.5, dtype=np.float32)
    wide = aspect or UNKNOWN_ASPECT
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    x_TK = (landmarks_TKC[..., X] - centre_C[X]) * wide
    y_TK = landmarks_TKC[..., Y] - centre_C[Y]
    landmarks_TKC[..., X] = centre_C[X] + stretch[0] * (cos * x_TK - sin * y_TK) / wide
    landmarks_TKC[..., Y] = centre_C[Y] + stretch[1] * (sin * x_TK + cos * y_TK)
    landmarks_TKC[..., Z] *= stretch[0]


def hide_stretch_(landmarks_TKC: Float32Array, part: slice, rng: np.random.Generator) -> None:
    """Make one part missing, in place, over one stretch of up to a sixth of the frames."""
    frames = len(landmarks_TKC)
    length = int(rng.integers(1, max(1, round(frames * _LONGEST_HIDDEN_SHARE)) + 1))
    start = int(rng.integers(0, frames - length + 1))
    landmarks_TKC[start : start + length, part] = np.nan
