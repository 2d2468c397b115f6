"""The thread of the camera preview: takes the newest picture and finds the landmarks in it.

The pictures are read in a process of their own, so nothing here waits for a driver, a file or a network. OpenCV,
MediaPipe and torch are imported by the thread, when they are first needed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QThread, Signal
from PySide6.QtGui import QImage

from core.errors import CameraError, ModelFileError
from core.landmarks.capture_process import CaptureProcess, Picture
from core.landmarks.layout import LEFT_HAND, N_POINTS, POSE, RIGHT_HAND
from core.landmarks.mailbox import Mailbox
from core.landmarks.models import missing_models
from signscope.errors import SignScopeError

if TYPE_CHECKING:
    from core.landmarks.detector import LandmarkDetector

_FPS_WINDOW_S: Final = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingView:
    """One frame as :func:`core.landmarks.normalize.normalize` gives it to the teacher."""

    points_KC: npt.NDArray[np.float32]
    """(75, 2) x, y in the body frame, NaN where masked."""
    left_KC: npt.NDArray[np.float32]
    """(21, 2) x, y of the left hand relative to its wrist, NaN where masked."""
    right_KC: npt.NDArray[np.float32]
    """(21, 2) the same of the right hand."""


@dataclass(frozen=True)
class PreviewFrame:
    """A picture with the landmarks that were found in that very picture."""

    image: QImage
    """Format_RGB32 over the memory of ``pixels``: not to be used after this record is gone."""
    pixels: npt.NDArray[np.uint8]
    landmarks_KC: npt.NDArray[np.float32]
    """(75, 4) raw, x and y as fractions of the picture, NaN where nothing was found."""
    training_view: TrainingView | None
    """What training would see of it, where that was asked for."""
    timestamp_ms: int
    """Time since the source was opened; strictly rising."""
    captured_s: float
    """``time.monotonic()`` when the picture was read."""
    fps: float
    """Pictures with landmarks per second, over the last two seconds."""
    dropped: int
    """Pictures replaced by newer ones since the first one was shown."""


class PreviewThread(QThread):
    """Shows one source from its opening until ``stop`` or a failure.

    Args:
        source: As for :func:`core.landmarks.capture.open_source`.
        detector: One that was made before; None lets the thread make one when the first picture is there.
    """

    opened = Signal(str)
    """What a person calls the source: a camera's name or a file's."""
    arrived = Signal()
    """There is a frame in ``frames``, which was empty."""

    def __init__(self, source: str, detector: LandmarkDetector | None) -> None:
        super().__init__()
        self.setObjectName("camera preview")
        self._source = source
        self._capture = CaptureProcess(source)
        self._finished_s: deque[float] = deque()
        self.frames: Mailbox[PreviewFrame] = Mailbox()
        self.wants_training_view = False
        self.detector = detector
        """To be read when the thread has ended, as is ``failure``."""
        self.failure: SignScopeError | None = None

    def stop(self) -> None:
        """End the reading at once and let the thread end; never waits. Any thread."""
        self._capture.kill()

    def run(self) -> None:
        """Show pictures until ``stop`` or the first failure, which is kept."""
        try:
            self._show_pictures()
        except Exception as error:
            self.failure = self._told(error)

    def _show_pictures(self) -> None:
        if self.detector is None and (missing := missing_models()):
            raise ModelFileError(
                "The landmark models are not here yet",
                subject=", ".join(missing),
                hint="They are fetched once, about 17 MB, and kept for all later starts.",
            )
        with self._capture as capture:
            from core.landmarks.detector import LandmarkDetector  # while the child starts

            first = capture.take()
            if first is None:
                return
            self.opened.emit(capture.label)
            detector = self.detector = self.detector or LandmarkDetector()
            # The detector outlives sources, and its timestamps must rise for all its life.
            base_ms = detector.last_timestamp_ms + 1
            # Pictures that came while the models were loaded are old, and no loss.
            picture: Picture | None = capture.take_now() or first
            dropped_before = capture.dropped
            while picture is not None:
                frame = self._preview(detector, picture, base_ms, capture.dropped - dropped_before)
                if self.frames.put(frame):
                    self.arrived.emit()
                picture = capture.take()

    def _preview(
        self, detector: LandmarkDetector, picture: Picture, base_ms: int, dropped: int
    ) -> PreviewFrame:
        from core.landmarks.capture import to_bgra

        found = detector.detect(picture.image_bgr, base_ms + picture.timestamp_ms)
        view = training_view(found.landmarks_KC) if self.wants_training_view else None
        pixels = to_bgra(picture.image_bgr)
        height, width = pixels.shape[:2]
        return PreviewFrame(
            image=QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32),
            pixels=pixels,
            landmarks_KC=found.in_image_KC,
            training_view=view,
            timestamp_ms=picture.timestamp_ms,
            captured_s=picture.captured_s,
            fps=self._measured_fps(),
            dropped=dropped + self.frames.replaced,
        )

    def _measured_fps(self) -> float:
        now_s = time.monotonic()
        self._finished_s.append(now_s)
        while now_s - self._finished_s[0] > _FPS_WINDOW_S:
            self._finished_s.popleft()
        passed_s = now_s - self._finished_s[0]
        return (len(self._finished_s) - 1) / passed_s if passed_s > 0 else 0.0

    def _told(self, error: Exception) -> SignScopeError:
        if isinstance(error, SignScopeError):
            return error
        _log.exception("the camera preview failed", exc_info=error)
        if isinstance(error, MemoryError):
            return CameraError(
                "There is not enough memory for the preview",
                subject=self._source,
                hint="Close other programs and switch it on again.",
            )
        return CameraError(
            f"The preview failed ({type(error).__name__}: {error})",
            subject=self._source,
            hint="Switch it on again; if this comes back, please report it.",
        )


def training_view(landmarks_KC: npt.NDArray[np.float32]) -> TrainingView:
    """Normalise one frame of raw landmarks (75, 4) with the very function that training uses.

    Imports torch when first called, which takes a second: call it from a worker thread.
    """
    import torch

    from core.landmarks.normalize import normalize

    seen = normalize(torch.from_numpy(landmarks_KC)[None, None], torch.tensor([1]))
    points_KC = np.full((N_POINTS, 2), np.nan, dtype=np.float32)
    hands = []
    for part, values, mask in (
        (POSE, seen.pose_BTKC, seen.pose_mask_BTK),
        (LEFT_HAND, seen.left_BTKC, seen.left_mask_BTK),
        (RIGHT_HAND, seen.right_BTKC, seen.right_mask_BTK),
    ):
        masked = np.where(mask[0, 0].numpy()[:, None], values[0, 0].numpy(), np.float32(np.nan))
        points_KC[part] = masked[:, :2]
        hands.append(masked[:, 2:4])
    return TrainingView(points_KC, hands[1], hands[2])
