"""The owner of the camera's thread: switches the camera on and off and hands its frames to the window."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QCoreApplication, QObject, Signal, Slot

from app.camera.preview_thread import PreviewThread
from signscope.errors import SignScopeError

if TYPE_CHECKING:
    from core.landmarks.detector import LandmarkDetector

STOP_LIMIT_S: Final = 5.0
"""How long closing waits for the thread, which may be loading the models just then."""

_log = logging.getLogger(__name__)


class CameraState(StrEnum):
    """What the camera is doing. It may be lit in every state but OFF."""

    OFF = "off"
    STARTING = "starting"
    ON = "on"
    STOPPING = "stopping"


class CameraController(QObject):
    """Switches the camera on and off and hands its frames to the window. GUI thread only.

    A source is a camera's index as text, or the path of a video file, an image or a folder of images.
    Switching off ends the reading at once and waits for the thread with a limit, which a picture that is being
    looked at and models that are being loaded may take; a thread is never torn down.
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
        self._thread: PreviewThread | None = None
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
        if self._thread is not None:
            self._thread.wants_training_view = value

    def start(self, source: str | int) -> None:
        """Switch on; when another source is on, that one is switched off first. Never waits."""
        text = str(source)
        if self._thread is not None:
            self._next_source = text
            self._ask_to_stop()
            return
        self.failure = None
        self.label = text
        self._thread = thread = PreviewThread(text, self._detector)
        _alive.add(thread)
        thread.wants_training_view = self._wants_training_view
        thread.opened.connect(self._on_opened)
        thread.arrived.connect(self._on_arrived)
        thread.finished.connect(self._on_finished)
        self._set_state(CameraState.STARTING)
        thread.start()

    def request_stop(self) -> None:
        """Ask the camera to go off; ``state_changed`` tells when it is. Never waits."""
        self._next_source = None
        self._ask_to_stop()

    def stop(self, timeout_s: float = STOP_LIMIT_S) -> bool:
        """Switch off and wait; False when the thread did not end within the limit."""
        self.request_stop()
        thread = self._thread
        if thread is None:
            return True
        stopped = thread.wait(round(1000 * timeout_s))
        if stopped:
            self._settle(thread)
        else:
            _log.warning("the preview of %s did not end within %.1f s", self.label, timeout_s)
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
        if self._thread is not None:
            self._thread.stop()
            self._set_state(CameraState.STOPPING)

    def _set_state(self, state: CameraState) -> None:
        if state is not self._state:
            self._state = state
            self.state_changed.emit(state)

    @Slot(str)
    def _on_opened(self, label: str) -> None:
        if self.sender() is self._thread:
            self.label = label

    @Slot()
    def _on_arrived(self) -> None:
        thread = self._thread
        if thread is None or self.sender() is not thread:
            return
        frame = thread.frames.take_now()
        if frame is None or self._state is CameraState.STOPPING:
            return
        self._set_state(CameraState.ON)
        self.frame_ready.emit(frame)

    @Slot()
    def _on_finished(self) -> None:
        thread = self._thread
        if thread is not None and self.sender() is thread:
            self._settle(thread)

    def _settle(self, thread: PreviewThread) -> None:
        """Clear up after the thread has ended."""
        thread.wait()
        _alive.discard(thread)
        self._thread = None
        self._detector = thread.detector
        self.failure = thread.failure
        next_source, self._next_source = self._next_source, None
        self._set_state(CameraState.OFF)
        if next_source is not None:
            self.start(next_source)
        elif self.failure is not None:
            self.failed.emit(str(self.failure))


_alive: set[PreviewThread] = set()


def thread_left_behind() -> bool:
    """Whether a preview still runs that did not end in time: Qt aborts a program that ends in the usual way then."""
    return any(thread.isRunning() for thread in _alive)
