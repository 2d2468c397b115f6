"""What a stretch of landmarks looks like before it is normalised, as a handful of numbers.

Taken once at the start of a run from its training samples, and from the frames of the camera preview,
so that :mod:`core.analysis.health` can say when landmarks were normalised before, or when preview and
training do not mean the same thing by the same numbers.

Free of torch until something is measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from core.landmarks.layout import (
    LEFT_HAND_WRIST,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_HAND_WRIST,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Float32Array,
    X,
    Y,
    present,
)

RAISED_ABOVE = 1.2
"""A wrist is raised when it is at most this many shoulder widths below the shoulders: the trunk is
about 1.5 long, so arms that hang down do not count."""


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Numbers about landmarks before normalisation. Shares are 0 to 1, NaN where there was nothing to count."""

    samples: int
    frames: int  # padding not counted
    shoulders_share: float  # frames with both shoulders: all others are masked altogether
    normalization_gap: float  # mean |normalise(x) - x| in shoulder widths, x and y
    negative_share: float  # x and y values below 0, of all present points
    left_share: float  # frames with the left hand
    right_share: float  # frames with the right hand
    raised_frames: int  # frames in which a wrist of the pose is raised and inside the image
    raised_hand_share: float  # of those, with at least one hand
    facing_share: float  # frames in which the left shoulder has the larger x, as in a plain image
    own_side_share: float  # hands that lie nearer to their own wrist of the pose than to the other
    nose_height: float  # median height of the nose above the shoulders, in shoulder widths

    def to_json(self) -> str:
        """Give the numbers as JSON text; NaN becomes null."""
        values = asdict(self)
        return json.dumps(
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in values.items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote; raises ValueError for anything else."""
        values = json.loads(text)
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError("these are not input statistics")
        whole = {"samples", "frames", "raised_frames"}
        numbers: dict[str, Any] = {
            name: int(value) if name in whole else math.nan if value is None else float(value)
            for name, value in values.items()
        }
        return cls(**numbers)


@runtime_checkable
class InputsObserver(Protocol):
    """A training observer that also wants the statistics of the run's input, before its first batch."""

    def on_inputs(self, statistics: InputStatistics) -> None:
        """Take the statistics; called in the trainer's thread, must return at once."""


def measure_inputs(clips: Sequence[Float32Array]) -> InputStatistics:
    """Measure landmarks as they are about to be normalised. Imports torch.

    Args:
        clips: (T, 75, 4) each, raw, NaN where missing. Frames of a preview may come as one clip.

    Raises:
        ValueError: A shape or dtype is wrong.
    """
    import torch

    from core.landmarks.normalize import double_normalization_gap

    frames_FKC = np.concatenate(clips) if clips else np.empty((0, 75, 4), np.float32)
    present_FK = present(frames_FKC)
    xy_FKC = frames_FKC[..., :2].astype(np.float64)
    shoulders_F = present_FK[:, LEFT_SHOULDER] & present_FK[:, RIGHT_SHOULDER]
    across_FC = xy_FKC[:, LEFT_SHOULDER] - xy_FKC[:, RIGHT_SHOULDER]
    width_F = np.hypot(across_FC[:, X], across_FC[:, Y])
    middle_FC = (xy_FKC[:, LEFT_SHOULDER] + xy_FKC[:, RIGHT_SHOULDER]) / 2

    hands_F = present_FK[:, LEFT_HAND_WRIST] | present_FK[:, RIGHT_HAND_WRIST]
    raised_F = shoulders_F & (
        _raised(xy_FKC[:, LEFT_WRIST], middle_FC, width_F)
        | _raised(xy_FKC[:, RIGHT_WRIST], middle_FC, width_F)
    )
    tall_F = shoulders_F & present_FK[:, NOSE] & (width_F > 0)
    nose_F = (middle_FC[tall_F, Y] - xy_FKC[tall_F, NOSE, Y]) / width_F[tall_F]
    return InputStatistics(
        samples=len(clips),
        frames=len(frames_FKC),
        shoulders_share=_mean(shoulders_F),
        normalization_gap=double_normalization_gap(torch.from_numpy(frames_FKC)[None]),
        negative_share=_mean(xy_FKC[present_FK] < 0),
        left_share=_mean(present_FK[:, LEFT_HAND_WRIST]),
        right_share=_mean(present_FK[:, RIGHT_HAND_WRIST]),
        raised_frames=int(raised_F.sum()),
        raised_hand_share=_mean(hands_F[raised_F]),
        facing_share=_mean(across_FC[shoulders_F, X] > 0),
        own_side_share=_mean(_on_own_side(xy_FKC)),
        nose_height=float(np.median(nose_F)) if len(nose_F) else math.nan,
    )


def _raised(wrist_FC: np.ndarray, middle_FC: np.ndarray, width_F: np.ndarray) -> np.ndarray:
    inside_F = ((wrist_FC >= 0) & (wrist_FC <= 1)).all(axis=1)
    raised: np.ndarray = inside_F & (wrist_FC[:, Y] - middle_FC[:, Y] <= RAISED_ABOVE * width_F)
    return raised


def _on_own_side(xy_FKC: np.ndarray) -> np.ndarray:
    """Tell for each detected hand whether it is nearer to its own wrist of the pose than to the other.

    Only frames in which the two wrists of the pose are further apart than half of the shoulders'
    width count: hands that touch say nothing.
    """
    apart_F = _distance(xy_FKC[:, LEFT_WRIST], xy_FKC[:, RIGHT_WRIST])
    width_F = _distance(xy_FKC[:, LEFT_SHOULDER], xy_FKC[:, RIGHT_SHOULDER])
    verdicts = []
    for hand, own, other in (
        (LEFT_HAND_WRIST, LEFT_WRIST, RIGHT_WRIST),
        (RIGHT_HAND_WRIST, RIGHT_WRIST, LEFT_WRIST),
    ):
        to_own_F = _distance(xy_FKC[:, hand], xy_FKC[:, own])
        to_other_F = _distance(xy_FKC[:, hand], xy_FKC[:, other])
        known_F = np.isfinite(to_own_F + to_other_F) & (apart_F > 0.5 * width_F)
        verdicts.append((to_own_F < to_other_F)[known_F])
    return np.concatenate(verdicts)


def _distance(a_FC: np.ndarray, b_FC: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.hypot(*(a_FC - b_FC).T)
    return distance


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
