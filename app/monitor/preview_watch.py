"""What the camera preview shows, in the numbers that the run's input is compared with."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QObject, Slot

from app.camera.camera_controller import CameraState
from app.camera.preview_thread import PreviewFrame
from app.monitor.health_panel import LOOK_EVERY_S, HealthPanel
from core.analysis.health.inputs import PREVIEW_FRAMES
from core.landmarks.input_statistics import measure_inputs

KEPT_FRAMES = 2 * PREVIEW_FRAMES
"""Newest frames that are measured: some six seconds of a camera, 2 ms of work."""


class PreviewWatch(QObject):
    """Keeps the newest frames of the preview and tells the health panel what they look like. GUI thread.

    Measures only while there is a run to compare with: torch is imported by then.

    Args:
        panel: Gets the statistics, and None when the camera goes off.
        clock: Seconds, only forwards.
    """

    def __init__(self, panel: HealthPanel, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(panel)
        self._panel = panel
        self._clock = clock
        self._frames: deque[npt.NDArray[np.float32]] = deque(maxlen=KEPT_FRAMES)
        self._measured_at_s = clock()

    @Slot(object)
    def take(self, frame: PreviewFrame) -> None:
        """Take a frame that is shown."""
        self._frames.append(frame.landmarks_KC)
        now_s = self._clock()
        if now_s - self._measured_at_s < LOOK_EVERY_S or not self._panel.knows_inputs:
            return
        self._measured_at_s = now_s
        self._panel.set_preview(measure_inputs([np.stack(self._frames)]))

    @Slot(object)
    def follow(self, state: CameraState) -> None:
        """Forget everything when the camera goes off."""
        if state is CameraState.OFF:
            self._frames.clear()
            self._panel.set_preview(None)
