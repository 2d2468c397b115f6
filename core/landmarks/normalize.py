"""The only normalisation: from raw landmarks to what the teacher sees.

Training, evaluation, recording and the camera preview all call :func:`normalize`, at batch time, on
whatever device the landmarks are. Corpora hold raw landmarks only. Every operation is elementwise and
correctly rounded, so that a frame gives the same bits alone and within a batch.

Shapes: B samples, T frames, K points, C coordinates; see :mod:`core.landmarks.layout`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.errors import AlreadyNormalizedError
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_SHOULDER,
    N_COORDS,
    N_POINTS,
    POSE,
    RIGHT_HAND,
    RIGHT_SHOULDER,
    VISIBILITY,
    check_landmarks,
)

MIN_SHOULDER_WIDTH: Final = 0.02
"""Smallest scale, in fractions of the image: a signer seen from the side must not blow up the rest."""

POSE_CHANNELS: Final = 3
"""Values of a normalised pose point: x, y, z in the body frame."""
HAND_CHANNELS: Final = 5
"""Values of a normalised hand point: x, y in the body frame; x, y, z from the wrist."""

_LOOKS_NORMALIZED_TOLERANCE: Final = 5e-3
_LOOKS_NORMALIZED_SHARE: Final = 0.9


@dataclass(frozen=True)
class NormalizedLandmarks:
    """What the teacher sees, float32 on one device; missing values are 0 and masked.

    Unit of all coordinates: the width of the signer's shoulders in that frame. Body frame: origin
    between the shoulders, x to the right of the image, y down.
    """

    pose_BTKC: Tensor
    """(B, T, 33, 3): x, y, z in the body frame."""
    left_BTKC: Tensor
    """(B, T, 21, 5): x, y in the body frame, then x, y, z relative to the left hand's own wrist."""
    right_BTKC: Tensor
    """(B, T, 21, 5): as ``left_BTKC`` for the right hand."""
    pose_mask_BTK: Tensor
    """(B, T, 33) bool, True where the point is present."""
    left_mask_BTK: Tensor
    """(B, T, 21) bool, True where the point is present."""
    right_mask_BTK: Tensor
    """(B, T, 21) bool, True where the point is present."""
    lengths_B: Tensor
    """(B,) int64: frames of each sample; later frames are padding, and masked."""

    def to(self, device: torch.device | str) -> NormalizedLandmarks:
        """Give the same landmarks on another device."""
        return NormalizedLandmarks(*(getattr(self, f.name).to(device) for f in fields(self)))


def normalize(landmarks_BTKC: Tensor, lengths_B: Tensor) -> NormalizedLandmarks:
    """Normalise raw landmarks, on their own device.

    In each frame the middle of the shoulders becomes the origin and the distance of the shoulders in
    the image plane (at least ``MIN_SHOULDER_WIDTH``) the unit. A frame without both shoulders is
    masked altogether, a point without a position alone, a hand without a wrist altogether.

    Args:
        landmarks_BTKC: (B, T, 75, 4) raw landmarks, floating, NaN where missing.
        lengths_B: (B,) integer, frames of each sample, 0 to T.

    Raises:
        AlreadyNormalizedError: ``landmarks_BTKC`` is the result of an earlier call.
        ValueError: A shape or dtype is wrong.
    """
    _check_arguments(landmarks_BTKC, lengths_B)
    xyz_BTKC = landmarks_BTKC[..., :VISIBILITY].to(torch.float32)
    lengths_B = lengths_B.to(device=xyz_BTKC.device, dtype=torch.int64)

    left_BTC = xyz_BTKC[:, :, LEFT_SHOULDER]
    right_BTC = xyz_BTKC[:, :, RIGHT_SHOULDER]
    origin_BTC = (left_BTC + right_BTC) * 0.5
    across_BTC = left_BTC - right_BTC
    # Written out, not hypot or norm: those differ in the last bit between one frame and many.
    width_BT = torch.sqrt(across_BTC[..., 0] ** 2 + across_BTC[..., 1] ** 2)
    scale_BT = width_BT.clamp(min=MIN_SHOULDER_WIDTH)

    within_BT = torch.arange(xyz_BTKC.shape[1], device=xyz_BTKC.device) < lengths_B[:, None]
    usable_BT = within_BT & torch.isfinite(origin_BTC).all(-1) & torch.isfinite(width_BT)
    present_BTK = torch.isfinite(xyz_BTKC).all(-1) & usable_BT[..., None]

    body_BTKC = (xyz_BTKC - origin_BTC[:, :, None]) / scale_BT[..., None, None]
    pose_mask_BTK = present_BTK[:, :, POSE]
    left_hand_BTKC, left_mask_BTK = _hand(xyz_BTKC, body_BTKC, present_BTK, scale_BT, LEFT_HAND)
    right_hand_BTKC, right_mask_BTK = _hand(xyz_BTKC, body_BTKC, present_BTK, scale_BT, RIGHT_HAND)
    return NormalizedLandmarks(
        pose_BTKC=_masked(body_BTKC[:, :, POSE], pose_mask_BTK),
        left_BTKC=left_hand_BTKC,
        right_BTKC=right_hand_BTKC,
        pose_mask_BTK=pose_mask_BTK,
        left_mask_BTK=left_mask_BTK,
        right_mask_BTK=right_mask_BTK,
        lengths_B=lengths_B,
    )


def refuse_if_normalized(landmarks_TKC: npt.NDArray[np.floating], *, subject: str) -> None:
    """Raise AlreadyNormalizedError when the numbers of a (T, 75, 4) recording look normalised already.

    Raw landmarks are fractions of the image: the middle of the shoulders stays in one corner of the
    image, or the shoulders span exactly the whole image, in no real recording. Frames without two
    distinct shoulders say nothing; a recording without any such frame passes.
    """
    check_landmarks(landmarks_TKC, subject=subject)
    left_TC = landmarks_TKC[:, LEFT_SHOULDER, :2].astype(np.float64)
    right_TC = landmarks_TKC[:, RIGHT_SHOULDER, :2].astype(np.float64)
    width_T = np.hypot(*(left_TC - right_TC).T)
    telling_T = np.isfinite(width_T) & (width_T > 1e-6)
    if not telling_T.any():
        return
    middle_TC = ((left_TC + right_TC) / 2)[telling_T]
    centred = _share_near(np.abs(middle_TC).max(axis=1), 0.0)
    unit_wide = _share_near(width_T[telling_T], 1.0)
    if max(centred, unit_wide) < _LOOKS_NORMALIZED_SHARE:
        return
    raise AlreadyNormalizedError(
        "These landmarks look normalised already: the middle of the shoulders lies at the origin in "
        f"{centred:.0%} and the shoulders are one unit wide in {unit_wide:.0%} of the frames",
        subject=subject,
        hint="SignScope normalises once, at batch time, from raw landmarks. A corpus is refused when it "
        "says that it is normalised or when its numbers look it. Import the raw landmarks again, x and y "
        "as fractions of the image.",
    )


def double_normalization_gap(landmarks_BTKC: Tensor) -> float:
    """Mean absolute change of x and y that normalising makes, in shoulder widths.

    Normalising twice changes nothing that normalising once has not changed, so the gap is near 0
    exactly when the landmarks were normalised before, and about 1 or more for raw ones. NaN when no
    point is present.

    Args:
        landmarks_BTKC: (B, T, 75, 4) what is about to be normalised.
    """
    batch, frames = landmarks_BTKC.shape[:2]
    once = normalize(landmarks_BTKC, torch.full((batch,), frames))
    after = torch.cat(
        [part[..., :2] for part in (once.pose_BTKC, once.left_BTKC, once.right_BTKC)], dim=2
    )
    mask = torch.cat([once.pose_mask_BTK, once.left_mask_BTK, once.right_mask_BTK], dim=2)
    before = landmarks_BTKC[..., :2].to(torch.float32)
    return float((after - before)[mask].abs().mean())


def _hand(
    xyz_BTKC: Tensor, body_BTKC: Tensor, present_BTK: Tensor, scale_BT: Tensor, hand: slice
) -> tuple[Tensor, Tensor]:
    """Give a hand's (B, T, 21, 5) features and its (B, T, 21) mask; its first point is its wrist."""
    mask_BTK = present_BTK[:, :, hand] & present_BTK[:, :, hand][:, :, :1]
    points_BTKC = xyz_BTKC[:, :, hand]
    to_wrist_BTKC = (points_BTKC - points_BTKC[:, :, :1]) / scale_BT[..., None, None]
    features_BTKC = torch.cat([body_BTKC[:, :, hand, :2], to_wrist_BTKC], dim=-1)
    return _masked(features_BTKC, mask_BTK), mask_BTK


def _masked(values_BTKC: Tensor, mask_BTK: Tensor) -> Tensor:
    return torch.where(mask_BTK[..., None], values_BTKC, 0.0)


def _share_near(values: npt.NDArray[np.float64], target: float) -> float:
    return float((np.abs(values - target) < _LOOKS_NORMALIZED_TOLERANCE).mean())


def _check_arguments(landmarks_BTKC: object, lengths_B: Tensor) -> None:
    if isinstance(landmarks_BTKC, NormalizedLandmarks):
        raise AlreadyNormalizedError(
            "Landmarks were about to be normalised a second time",
            subject="normalize()",
            hint="Pass raw landmarks; what normalize() gives goes straight into the teacher.",
        )
    if not isinstance(landmarks_BTKC, Tensor):
        raise ValueError(f"landmarks must be a tensor, found {type(landmarks_BTKC).__name__}")
    if landmarks_BTKC.ndim != 4 or landmarks_BTKC.shape[2:] != (N_POINTS, N_COORDS):
        raise ValueError(
            f"landmarks must be (B, T, {N_POINTS}, {N_COORDS}), found {tuple(landmarks_BTKC.shape)}"
        )
    if not landmarks_BTKC.is_floating_point():
        raise ValueError(f"landmarks must be floating, found {landmarks_BTKC.dtype}")
    if lengths_B.shape != landmarks_BTKC.shape[:1] or lengths_B.is_floating_point():
        raise ValueError(
            f"lengths must be ({landmarks_BTKC.shape[0]},) integers, "
            f"found {tuple(lengths_B.shape)} {lengths_B.dtype}"
        )
