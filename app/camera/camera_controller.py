"""The owner of the camera's threads: one reads frames, one finds landmarks in the newest of them.

Nothing here waits for the window and the window waits for nothing here: frames pass through one-place
mailboxes in which the newest wins, and what was replaced is counted. OpenCV, MediaPipe and torch are
imported by the threads, when they are first needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QCoreApplication, QObject, QThread, Signal, Slot
from PySide6.QtGui import QImage

from core.errors import CameraError, ModelFileError
from core.landmarks.layout import LEFT_HAND, N_POINTS, POSE, RIGHT_HAND
from core.landmarks.models import missing_models
from signscope.errors import SignScopeError

if TYPE_CHECKING:
    from core.landmarks.capture import Frame, FrameSource
    from core.landmarks.detector import LandmarkDetector

STOP_LIMIT_S: Final = 5.0
"""How long closing waits for the threads; a camera that was pulled out may take three seconds."""
_FPS_WINDOW_S: Final = 2.0
_LATE_S: Final = 1.0

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class CameraState(StrEnum):
    """What the camera is doing. It may be lit in every state but OFF."""

    OFF = "off"
    STARTING = "starting"
    ON = "on"
    STOPPING = "stopping"


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


class Mailbox(Generic[_Item]):
    """One place; a new item replaces one that was not taken. Any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: _Item | None = None
        self._closed = False
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many items nobody took."""
        with self._changed:
            return self._replaced

    def put(self, item: _Item) -> bool:
        """Leave an item; True when the place was empty."""
        with self._changed:
            was_empty = self._item is None
            self._replaced += not was_empty
            self._item = item
            self._changed.notify()
            return was_empty

    def take(self) -> _Item | None:
        """Wait for an item; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._item is not None)
            item, self._item = self._item, None
            return None if self._closed else item

    def take_now(self) -> _Item | None:
        """Give the item, or None where there is none."""
        with self._changed:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True)
class _Captured:
    frame: Frame
    timestamp_ms: int
    captured_s: float


class _Session:
    """What the two threads of one switching-on share."""

    def __init__(self, source: str, detector: LandmarkDetector | None) -> None:
        self.source = source
        self.stopping = threading.Event()
        self.captured: Mailbox[_Captured] = Mailbox()
        self.detected: Mailbox[PreviewFrame] = Mailbox()
        self.detector = detector
        self.wants_training_view = False
        self._failure: SignScopeError | None = None
        self._lock = threading.Lock()

    @property
    def failure(self) -> SignScopeError | None:
        with self._lock:
            return self._failure

    def fail(self, error: Exception) -> None:
        """Keep the first error, and end both threads."""
        if not isinstance(error, SignScopeError):
            _log.exception("the camera preview failed", exc_info=error)
            error = CameraError(
                f"The preview failed ({type(error).__name__}: {error})",
                subject=self.source,
                hint="Switch it on again; if this comes back, please report it.",
            )
        with self._lock:
            self._failure = self._failure or error
        self.stop()

    def stop(self) -> None:
        self.stopping.set()
        self.captured.close()


class _CaptureThread(QThread):
    """Reads frames in their own time and leaves the newest in the mailbox."""

    opened = Signal(str)

    def __init__(self, session: _Session) -> None:
        super().__init__()
        self.setObjectName("camera capture")
        self._session = session

    def run(self) -> None:
        """Read until told to stop or the source fails; the source is closed here."""
        try:
            self._read()
        except Exception as error:
            self._session.fail(error)

    def _read(self) -> None:
        session = self._session
        if session.detector is None and (missing := missing_models()):
            raise ModelFileError(
                "The landmark models are not here yet",
                subject=", ".join(missing),
                hint="They are fetched once, about 17 MB, and kept for all later starts.",
            )
        from core.landmarks.capture import open_source

        offset_ms = 0
        while not session.stopping.is_set():
            with open_source(session.source) as source:
                self.opened.emit(source.label)
                # A file stands in for a camera, which has no end: it starts again.
                offset_ms = self._read_through(source, offset_ms)

    def _read_through(self, source: FrameSource, offset_ms: int) -> int:
        """Read to the end of the source; gives the timestamp that follows its last frame."""
        session = self._session
        started_s = time.monotonic()
        following_ms = offset_ms
        while not session.stopping.is_set() and (frame := source.read()) is not None:
            if not source.live:
                due_s = started_s + frame.timestamp_ms / 1000
                session.stopping.wait(max(0.0, due_s - time.monotonic()))
                if time.monotonic() - due_s > _LATE_S:  # the computer slept: do not race after it
                    started_s = time.monotonic() - frame.timestamp_ms / 1000
            timestamp_ms = offset_ms + frame.timestamp_ms
            session.captured.put(_Captured(frame, timestamp_ms, time.monotonic()))
            following_ms = timestamp_ms + max(1, round(1000 / source.fps))
        return following_ms


class _DetectThread(QThread):
    """Finds landmarks in the newest frame and leaves the result in the mailbox for the window."""

    arrived = Signal()

    def __init__(self, session: _Session) -> None:
        super().__init__()
        self.setObjectName("camera landmarks")
        self._session = session
        self._finished_s: deque[float] = deque()
        self._replaced_at_start = 0

    def run(self) -> None:
        """Detect until the mailbox of frames is closed."""
        try:
            self._detect()
        except Exception as error:
            self._session.fail(error)

    def _detect(self) -> None:
        session = self._session
        first = session.captured.take()  # the models are known to be there once a frame is
        if first is None:
            return
        from core.landmarks.detector import LandmarkDetector

        if session.detector is None:
            session.detector = LandmarkDetector()
        # The detector outlives sources, and its timestamps must rise for all its life.
        base_ms = session.detector.last_timestamp_ms + 1
        # Pictures that came while the models were loaded are old, and no loss.
        captured: _Captured | None = session.captured.take_now() or first
        self._replaced_at_start = session.captured.replaced
        while captured is not None:
            frame = self._preview(session.detector, captured, base_ms)
            if session.detected.put(frame):
                self.arrived.emit()
            captured = session.captured.take()

    def _preview(
        self, detector: LandmarkDetector, captured: _Captured, base_ms: int
    ) -> PreviewFrame:
        from core.landmarks.capture import to_bgra

        session = self._session
        image_bgr = captured.frame.image_bgr
        found = detector.detect(image_bgr, base_ms + captured.timestamp_ms)
        view = training_view(found.landmarks_KC) if session.wants_training_view else None
        pixels = to_bgra(image_bgr)
        height, width = pixels.shape[:2]
        return PreviewFrame(
            image=QImage(pixels.data, width, height, 4 * width, QImage.Format.Format_RGB32),
            pixels=pixels,
            landmarks_KC=found.in_image_KC,
            training_view=view,
            timestamp_ms=captured.timestamp_ms,
            captured_s=captured.captured_s,
            fps=self._measured_fps(),
            dropped=session.captured.replaced - self._replaced_at_start + session.detected.replaced,
        )

    def _measured_fps(self) -> float:
        now_s = time.monotonic()
        self._finished_s.append(now_s)
        while now_s - self._finished_s[0] > _FPS_WINDOW_S:
            self._finished_s.popleft()
        passed_s = now_s - self._finished_s[0]
        return (len(self._finished_s) - 1) / passed_s if passed_s > 0 else 0.0


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


class CameraController(QObject):
    """Switches the camera on and off and hands its frames to the window. GUI thread only.

    A source is a camera's index as text, or the path of a video file, an image or a folder of images.
    Switching off asks the threads, waits with a limit and reports; a thread is never torn down.
    """

    frame_ready = Signal(object)
    """A :class:`PreviewFrame`, the newest one."""
    state_changed = Signal(object)
    """The new :class:`CameraState`."""
    failed = Signal(str)
    """A sentence for the person, after the state has gone to OFF; ``failure`` is the error itself."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state = CameraState.OFF
        self._session: _Session | None = None
        self._threads: tuple[QThread, ...] = ()
        self._next_source: str | None = None
        self._detector: LandmarkDetector | None = None
        self._wants_training_view = False
        self.failure: SignScopeError | None = None
        self.label = ""
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._on_about_to_quit)

    @property
    def state(self) -> CameraState:
        """What the camera is doing now."""
        return self._state

    @property
    def wants_training_view(self) -> bool:
        """Whether frames come with what training sees of them."""
        return self._wants_training_view

    @wants_training_view.setter
    def wants_training_view(self, value: bool) -> None:
        self._wants_training_view = value
        if self._session is not None:
            self._session.wants_training_view = value

    def start(self, source: str | int) -> None:
        """Switch on; when another source is on, that one is switched off first. Never waits."""
        text = str(source)
        if self._session is not None:
            self._next_source = text
            self._ask_to_stop()
            return
        self.failure = None
        self.label = text
        self._session = session = _Session(text, self._detector)
        session.wants_training_view = self._wants_training_view
        capture, detect = _CaptureThread(session), _DetectThread(session)
        capture.opened.connect(self._on_opened)
        detect.arrived.connect(self._on_arrived)
        self._threads = (capture, detect)
        _alive.update(self._threads)
        for thread in self._threads:
            thread.finished.connect(self._on_thread_finished)
        self._set_state(CameraState.STARTING)
        for thread in self._threads:
            thread.start()

    def request_stop(self) -> None:
        """Ask the camera to go off; ``state_changed`` tells when it is. Never waits."""
        self._next_source = None
        self._ask_to_stop()

    def stop(self, timeout_s: float = STOP_LIMIT_S) -> bool:
        """Switch off and wait; False when the camera was not released within the limit."""
        self.request_stop()
        until_s = time.monotonic() + timeout_s
        stopped = all(
            thread.wait(max(0, round(1000 * (until_s - time.monotonic()))))
            for thread in self._threads
        )
        if stopped:
            self._settle()
        else:
            _log.warning("the camera %s was not released within %.1f s", self.label, timeout_s)
        return stopped

    def close(self, timeout_s: float = STOP_LIMIT_S) -> bool:
        """Stop as ``stop`` does and let go of the landmark models; it may be started again."""
        stopped = self.stop(timeout_s)
        if stopped and self._detector is not None:
            self._detector.close()
            self._detector = None
        return stopped

    @Slot()
    def _on_about_to_quit(self) -> None:
        self.close()

    def _ask_to_stop(self) -> None:
        if self._session is not None:
            self._session.stop()
            self._set_state(CameraState.STOPPING)

    def _set_state(self, state: CameraState) -> None:
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)

    @Slot(str)
    def _on_opened(self, label: str) -> None:
        if self._is_current(self.sender()):
            self.label = label

    @Slot()
    def _on_arrived(self) -> None:
        if self._session is None or not self._is_current(self.sender()):
            return
        frame = self._session.detected.take_now()
        if frame is None or self._state is CameraState.STOPPING:
            return
        self._set_state(CameraState.ON)
        self.frame_ready.emit(frame)

    def _is_current(self, sender: QObject | None) -> bool:
        return sender in self._threads

    @Slot()
    def _on_thread_finished(self) -> None:
        if self._is_current(self.sender()) and all(t.isFinished() for t in self._threads):
            self._settle()

    def _settle(self) -> None:
        """Clear up after both threads have ended."""
        session, threads = self._session, self._threads
        if session is None:
            return
        for thread in threads:
            thread.wait()
            _alive.discard(thread)
        self._session, self._threads = None, ()
        self._detector = session.detector
        self.failure = session.failure
        next_source, self._next_source = self._next_source, None
        self._set_state(CameraState.OFF)
        if next_source is not None:
            self.start(next_source)
        elif self.failure is not None:
            self.failed.emit(str(self.failure))


_alive: set[QThread] = set()
"""Threads that run: Qt aborts the program when the object of a running thread is collected."""
