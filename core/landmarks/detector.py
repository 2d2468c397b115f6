"""Landmarks of one signer in a stream of images. The only module that imports mediapipe.

MediaPipe's pose and hand landmarkers run in VIDEO mode, each in a thread of its own (they release the
interpreter while they compute). What comes out is in the one layout of :mod:`core.landmarks.layout`.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import re
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psutil

from core.errors import CameraError

# First of all: it checks the system's libraries and keeps OpenCV, which mediapipe imports as well, from
# pointing Qt at plugins of its own.
from core.landmarks.capture import ImageArray, to_rgb
from core.landmarks.layout import (
    LEFT_HAND,
    LEFT_WRIST,
    N_COORDS,
    N_POINTS,
    POSE,
    RIGHT_HAND,
    RIGHT_WRIST,
    Float32Array,
    X,
    mirror,
)
from core.landmarks.models import HAND_MODEL, POSE_MODEL, ensure_models
from signscope.closing import Closing

os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision

LEFT: Final = "Left"
RIGHT: Final = "Right"
_HAND_OF: Final = {LEFT: LEFT_HAND, RIGHT: RIGHT_HAND}
_POSE_WRIST_OF: Final = {LEFT: LEFT_WRIST, RIGHT: RIGHT_WRIST}

_NEEDED_MEMORY: Final = 256 << 20
_NEEDED_ADDRESSES: Final = 1 << 30
"""What the landmarkers take: 193 MiB of memory, 1014 of addresses, measured over 60 pictures of 720p."""

_NOISE: Final = re.compile(
    rb"Created TensorFlow Lite|before InitGoogle|inference_feedback_manager|landmark_projection_calculator"
)
_quiet_lock = threading.Lock()


@dataclass(frozen=True)
class DetectedFrame:
    """Landmarks of one image."""

    landmarks_KC: Float32Array
    """(75, 4) raw landmarks as the plain, unmirrored image gives them; NaN where nothing was detected."""
    timestamp_ms: int
    mirrored: bool
    """Whether the image was a mirror image."""

    @property
    def in_image_KC(self) -> Float32Array:
        """(75, 4) the same points with x as in the very image that was given, for drawing upon it."""
        if not self.mirrored:
            return self.landmarks_KC
        drawn_KC = self.landmarks_KC.copy()
        drawn_KC[:, X] = 1 - drawn_KC[:, X]
        return drawn_KC


@dataclass(frozen=True)
class DetectedHand:
    """A hand as the landmarker gave it."""

    label: str
    """``LEFT`` or ``RIGHT``."""
    score: float
    """How sure the landmarker is of the label, 0.5 to 1."""
    landmarks_KC: Float32Array
    """(21, 4), visibility 1."""


class LandmarkDetector(Closing):
    """Pose and hands of one signer; a context manager, to be closed by its owner.

    Make one and keep it: MediaPipe keeps about 5 MB of each that was ever made. ``detect`` may be
    called from any thread, by one at a time. The models must be in the cache
    (:func:`core.landmarks.models.ensure_models`); making a detector raises ModelFileError otherwise, and
    CameraError where there is too little memory for it.

    Args:
        mirrored: The images that will be given are mirror images. Left and right and x are then put
            right, so that the landmarks are those of the plain image.
    """

    def __init__(self, mirrored: bool = False) -> None:
        self.mirrored = mirrored
        self._last_ms = -1
        self._noisy = True
        self._closing = contextlib.ExitStack()
        paths = ensure_models((POSE_MODEL, HAND_MODEL), sources=())
        _check_memory()
        video = vision.RunningMode.VIDEO
        with _quiet():
            self._pose = vision.PoseLandmarker.create_from_options(
                vision.PoseLandmarkerOptions(
                    BaseOptions(model_asset_path=str(paths[POSE_MODEL])), running_mode=video
                )
            )
            self._closing.callback(self._pose.close)
            self._hands = vision.HandLandmarker.create_from_options(
                vision.HandLandmarkerOptions(
                    BaseOptions(model_asset_path=str(paths[HAND_MODEL])),
                    running_mode=video,
                    num_hands=2,
                )
            )
            self._closing.callback(self._hands.close)
        # Closed before the landmarkers: the last callback comes first.
        self._hands_thread = ThreadPoolExecutor(1, thread_name_prefix="signscope-hands")
        self._closing.callback(self._hands_thread.shutdown)
        _open_detectors.add(self)

    def detect(self, frame_bgr: ImageArray, timestamp_ms: int) -> DetectedFrame:
        """Find the landmarks in the next image of the stream.

        Args:
            frame_bgr: (height, width, 3) uint8 as OpenCV gives it, not flipped.
            timestamp_ms: Later than that of the image before.

        Raises:
            ValueError: The timestamp does not rise, or the detector is closed.
        """
        if timestamp_ms <= self._last_ms:
            raise ValueError(
                f"timestamps must rise: {timestamp_ms} ms came after {self._last_ms} ms"
            )
        if self.closed:
            raise ValueError("the detector is closed")
        self._last_ms = timestamp_ms
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=to_rgb(frame_bgr))
        with _quiet() if self._noisy else contextlib.nullcontext():
            finding_hands = self._hands_thread.submit(
                self._hands.detect_for_video, image, timestamp_ms
            )
            found_pose = self._pose.detect_for_video(image, timestamp_ms)
            found_hands = finding_hands.result()
        if found_pose.pose_landmarks:
            self._noisy = False  # both have said by now what they say once
        landmarks_KC = _assemble(found_pose, found_hands)
        if self.mirrored:
            landmarks_KC = mirror(landmarks_KC)
        return DetectedFrame(landmarks_KC, timestamp_ms, self.mirrored)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self not in _open_detectors

    @property
    def last_timestamp_ms(self) -> int:
        """Timestamp of the last image, -1 before the first."""
        return self._last_ms

    def close(self) -> None:
        """Let go of models and thread; may be called again."""
        _open_detectors.discard(self)
        self._closing.close()


_open_detectors: weakref.WeakSet[LandmarkDetector] = weakref.WeakSet()


def _close_all() -> None:
    """Close what its owner forgot: MediaPipe fails noisily when the interpreter takes it down."""
    for detector in list(_open_detectors):
        detector.close()


# MediaPipe calls its libraries through executors, which are shut down before ordinary exit handlers run;
# the threading module's own list of handlers is the one that comes before them.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _check_memory() -> None:
    """Refuse to begin with too little memory: where MediaPipe gets none it takes the whole program down."""
    available = psutil.virtual_memory().available
    if available < _NEEDED_MEMORY or _spare_addresses() < _NEEDED_ADDRESSES:
        raise CameraError(
            "There is not enough memory for the landmark models",
            subject=f"{available >> 20} MB are free",
            hint=f"They need {_NEEDED_MEMORY >> 20} MB, and a limit set by `ulimit -v` must leave "
            f"{_NEEDED_ADDRESSES >> 20} MB. Close other programs or raise the limit, and try again.",
        )


def _spare_addresses() -> float:
    """Bytes of address space that this process may still take."""
    try:
        import resource
    except ImportError:  # Windows sets no such limit
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    return float(limit - psutil.Process().memory_info().vms)


def assign_hands(hands: Sequence[DetectedHand], pose_KC: Float32Array) -> dict[str, DetectedHand]:
    """Say which of at most two detected hands is the left one and which the right one.

    mediapipe 1.x labels hands as they are in a plain image (older versions assumed a mirrored one), so
    the label counts. Where both carry the same label, the hands go to the pose's wrists so that the
    sum of the distances is smallest; without a pose the surer label stays. One hand that was found
    twice counts once.

    Args:
        hands: What the hand landmarker found.
        pose_KC: (33, 4) or more points of the pose, NaN where there is none.
    """
    hands = sorted(hands, key=lambda hand: -hand.score)[:2]
    if len(hands) == 2 and _is_one_hand(hands[0], hands[1], pose_KC):
        hands = [min(hands, key=lambda hand: _distance(hand, hand.label, pose_KC))]
    if len(hands) < 2 or hands[0].label != hands[1].label:
        return {hand.label: hand for hand in hands}
    sure, unsure = hands
    stay = _distance(sure, sure.label, pose_KC) + _distance(unsure, _other(sure.label), pose_KC)
    swap = _distance(unsure, sure.label, pose_KC) + _distance(sure, _other(sure.label), pose_KC)
    if swap < stay:  # never true for NaN
        sure, unsure = unsure, sure
    return {hands[0].label: sure, _other(hands[0].label): unsure}


def _is_one_hand(a: DetectedHand, b: DetectedHand, pose_KC: Float32Array) -> bool:
    """Tell one hand found twice from two hands that touch: then the pose's wrists are near as well."""
    apart_K = np.hypot(*(a.landmarks_KC - b.landmarks_KC)[:, :2].T)
    size = np.hypot(*(a.landmarks_KC - a.landmarks_KC[0])[:, :2].T).max()
    if apart_K.mean() > size / 2:
        return False
    wrists_apart = math.dist(pose_KC[LEFT_WRIST, :2], pose_KC[RIGHT_WRIST, :2])
    return a.label == b.label if math.isnan(wrists_apart) else bool(wrists_apart > size)


def _assemble(found_pose: Any, found_hands: Any) -> Float32Array:
    """Put what MediaPipe found into the layout: (75, 4) float32."""
    landmarks_KC = np.full((N_POINTS, N_COORDS), np.nan, dtype=np.float32)
    if found_pose.pose_landmarks:
        landmarks_KC[POSE] = [(p.x, p.y, p.z, p.visibility) for p in found_pose.pose_landmarks[0]]
    hands = [
        DetectedHand(
            label=categories[0].category_name,
            score=categories[0].score,
            landmarks_KC=np.array([(p.x, p.y, p.z, 1.0) for p in points], dtype=np.float32),
        )
        for categories, points in zip(
            found_hands.handedness, found_hands.hand_landmarks, strict=True
        )
    ]
    for label, hand in assign_hands(hands, landmarks_KC).items():
        landmarks_KC[_HAND_OF[label]] = hand.landmarks_KC
    return landmarks_KC


def _other(label: str) -> str:
    return LEFT if label == RIGHT else RIGHT


def _distance(hand: DetectedHand, label: str, pose_KC: Float32Array) -> float:
    """Distance of a hand's wrist from the pose's wrist of that side; NaN without a pose."""
    return math.dist(hand.landmarks_KC[0, :2], pose_KC[_POSE_WRIST_OF[label], :2])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's greetings off standard error; what anyone else writes is passed on at the end.

    Its libraries write to file descriptor 2 before any of their settings for the log is read.
    """
    with _quiet_lock, tempfile.TemporaryFile() as aside:
        try:
            original = os.dup(2)
        except OSError:  # no standard error at all, as under pythonw
            yield
            return
        try:
            os.dup2(aside.fileno(), 2)
            yield
        finally:
            os.dup2(original, 2)
            aside.seek(0)
            for line in aside:
                if not _NOISE.search(line):
                    os.write(2, line)
            os.close(original)
