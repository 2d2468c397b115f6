"""The one layout of landmarks: 33 pose points, 21 of the left hand, 21 of the right hand.

Landmarks are float32 arrays ``landmarks_TKC`` of shape (frames T, points K = 75, coordinates C = 4):
x and y as fractions of the image's width and height (y points down), z as relative depth in about
the scale of x (of the pose relative to the hips, of a hand relative to its wrist), and visibility
from 0 to 1. Left and right are the signer's own. What was not detected is NaN in all four values.

The points, their order and the edges of the pose are those of MediaPipe's pose and hand landmarkers
(https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker and .../hand_landmarker).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from core.errors import MalformedInputError

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

N_POSE: Final = 33
N_HAND: Final = 21
N_POINTS: Final = N_POSE + 2 * N_HAND
N_COORDS: Final = 4
"""Coordinates of a point: x, y, z, visibility."""

LARGEST_VALUE: Final = 100.0
"""A value beyond this is no landmark: a point a hundred images away. Detectors stay below 10 or so, also with
points that they guess outside of the image; coordinates in pixels, or bytes that mean something else, do not."""

POSE: Final = slice(0, N_POSE)
LEFT_HAND: Final = slice(N_POSE, N_POSE + N_HAND)
RIGHT_HAND: Final = slice(N_POSE + N_HAND, N_POINTS)
PARTS: Final[tuple[tuple[str, slice], ...]] = (
    ("pose", POSE),
    ("left_hand", LEFT_HAND),
    ("right_hand", RIGHT_HAND),
)
"""Parts that are detected, or not, as a whole, in the order of the points."""

X: Final = 0
Y: Final = 1
Z: Final = 2
VISIBILITY: Final = 3

NOSE: Final = 0
LEFT_SHOULDER: Final = 11
RIGHT_SHOULDER: Final = 12
LEFT_ELBOW: Final = 13
RIGHT_ELBOW: Final = 14
LEFT_WRIST: Final = 15
RIGHT_WRIST: Final = 16
LEFT_HIP: Final = 23
RIGHT_HIP: Final = 24
LEFT_HAND_WRIST: Final = LEFT_HAND.start
"""The left hand's own wrist point; ``LEFT_WRIST`` is the pose's."""
RIGHT_HAND_WRIST: Final = RIGHT_HAND.start

_POSE_VALUES: Final = N_POSE * N_COORDS
_HAND_VALUES: Final = N_HAND * 3
VALUES: Final = _POSE_VALUES + 2 * _HAND_VALUES
"""Values of a frame in the public 258-value layout; see :func:`from_values`."""

_POSE_NAMES: Final = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)
_FINGERS: Final = {
    "thumb": ("cmc", "mcp", "ip", "tip"),
    "index": ("mcp", "pip", "dip", "tip"),
    "middle": ("mcp", "pip", "dip", "tip"),
    "ring": ("mcp", "pip", "dip", "tip"),
    "pinky": ("mcp", "pip", "dip", "tip"),
}
_HAND_NAMES: Final = (
    "wrist",
    *(f"{finger}_{joint}" for finger, joints in _FINGERS.items() for joint in joints),
)

POINT_NAMES: Final[tuple[str, ...]] = (
    *_POSE_NAMES,
    *(f"left_hand_{name}" for name in _HAND_NAMES),
    *(f"right_hand_{name}" for name in _HAND_NAMES),
)
"""Name of each of the 75 points."""

_POSE_EDGES: Final = (
    # face
    *((0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10)),
    # trunk
    *((11, 12), (11, 23), (12, 24), (23, 24)),
    # left arm and the pose's own coarse hand
    *((11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (17, 19)),
    # right arm and the pose's own coarse hand
    *((12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20)),
    # legs
    *((23, 25), (25, 27), (27, 29), (29, 31), (27, 31)),
    *((24, 26), (26, 28), (28, 30), (30, 32), (28, 32)),
)
_HAND_EDGES: Final = (
    *((0, 1), (1, 2), (2, 3), (3, 4)),
    *((0, 5), (5, 6), (6, 7), (7, 8)),
    *((5, 9), (9, 10), (10, 11), (11, 12)),
    *((9, 13), (13, 14), (14, 15), (15, 16)),
    *((13, 17), (0, 17), (17, 18), (18, 19), (19, 20)),
)

EDGES: Final[tuple[tuple[int, int], ...]] = (
    *_POSE_EDGES,
    *((a + LEFT_HAND.start, b + LEFT_HAND.start) for a, b in _HAND_EDGES),
    *((a + RIGHT_HAND.start, b + RIGHT_HAND.start) for a, b in _HAND_EDGES),
)
"""Pairs of points joined by a bone in a drawing; none joins two parts."""


def _counterpart(name: str) -> str:
    swaps = {"left": "right", "right": "left"}
    return "_".join(swaps.get(word, word) for word in name.split("_"))


MIRROR: Final[npt.NDArray[np.intp]] = np.array(
    [POINT_NAMES.index(_counterpart(name)) for name in POINT_NAMES], dtype=np.intp
)
"""Index of each point's counterpart on the other side of the body; its own inverse."""
MIRROR.setflags(write=False)


def check_landmarks(landmarks_TKC: npt.NDArray[np.generic], *, subject: str = "landmarks") -> None:
    """Raise MalformedInputError unless the array is floating and of shape (..., 75, 4)."""
    if landmarks_TKC.ndim < 2 or landmarks_TKC.shape[-2:] != (N_POINTS, N_COORDS):
        raise MalformedInputError(
            f"Landmarks have shape {landmarks_TKC.shape}, expected (frames, {N_POINTS}, {N_COORDS})",
            subject=subject,
            hint="See core/landmarks/layout.py for the layout.",
        )
    if not np.issubdtype(landmarks_TKC.dtype, np.floating):
        raise MalformedInputError(
            f"Landmarks are {landmarks_TKC.dtype}, expected float32",
            subject=subject,
            hint="Convert them to float32.",
        )


def from_values(values_TV: npt.NDArray[np.floating]) -> Float32Array:
    """Map frames of 258 values onto the layout.

    Args:
        values_TV: (T, 258), a frame being pose 33 x (x, y, z, visibility), left hand 21 x (x, y, z),
            right hand 21 x (x, y, z); a part that was not detected is all zeros.

    Returns:
        New (T, 75, 4) float32; a part that was all zeros in a frame is NaN there, and a detected
        hand's points have visibility 1, since the hand landmarker reports none.

    Raises:
        MalformedInputError: The array is not (T, 258).
    """
    if values_TV.ndim != 2 or values_TV.shape[1] != VALUES:
        raise MalformedInputError(
            f"Landmark values have shape {values_TV.shape}, expected (frames, {VALUES})",
            subject="landmark values",
            hint="A frame is pose 33 x 4, left hand 21 x 3, right hand 21 x 3.",
        )
    frames = values_TV.shape[0]
    landmarks_TKC = np.ones((frames, N_POINTS, N_COORDS), dtype=np.float32)
    left_start, right_start = _POSE_VALUES, _POSE_VALUES + _HAND_VALUES
    landmarks_TKC[:, POSE] = values_TV[:, :left_start].reshape(frames, N_POSE, N_COORDS)
    landmarks_TKC[:, LEFT_HAND, :VISIBILITY] = values_TV[:, left_start:right_start].reshape(
        frames, N_HAND, 3
    )
    landmarks_TKC[:, RIGHT_HAND, :VISIBILITY] = values_TV[:, right_start:].reshape(
        frames, N_HAND, 3
    )
    for _, part in PARTS:
        undetected_T = ~landmarks_TKC[:, part, :VISIBILITY].any(axis=(1, 2))
        landmarks_TKC[undetected_T, part] = np.nan
    return landmarks_TKC


def present(landmarks_TKC: npt.NDArray[np.floating]) -> BoolArray:
    """Tell which points have a position: (..., 75, 4) gives bool (..., 75), True where x, y, z are finite."""
    present_TK: BoolArray = np.isfinite(landmarks_TKC[..., :VISIBILITY]).all(axis=-1)
    return present_TK


def mirror(landmarks_TKC: Float32Array) -> Float32Array:
    """Give new landmarks as a mirror shows them: x becomes 1 - x, left and right points are exchanged.

    Shape (..., 75, 4). Missing points stay missing, on the other side. Turns a mirrored recording
    into a plain one and back.
    """
    check_landmarks(landmarks_TKC)
    mirrored_TKC = landmarks_TKC[..., MIRROR, :]
    mirrored_TKC[..., X] = 1 - mirrored_TKC[..., X]
    return mirrored_TKC
