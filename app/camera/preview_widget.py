"""The camera preview: a picker, a switch, the picture with its landmarks, and plain words when it fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from PySide6.QtCore import QEvent, Qt, QTimer, Slot
from PySide6.QtGui import QHideEvent, QResizeEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.background import Job, Progress, WorkCancelled, background
from app.camera.camera_controller import CameraController, CameraState
from app.camera.message_page import MessagePage
from app.camera.overlay import LEFT_COLOR, RIGHT_COLOR
from app.camera.picture_view import PictureView
from app.camera.preview_thread import PreviewFrame
from app.camera.source_picker import PreviewSettings, SourcePicker
from app.waiting import Tasks
from core.errors import ModelFileError
from core.landmarks.models import ensure_models
from signscope.errors import SignScopeError

SIGN_COLOR: Final = "#c62828"
_LEGEND: Final = (
    f'<span style="color:{LEFT_COLOR}">●</span> left hand&nbsp;&nbsp; '
    f'<span style="color:{RIGHT_COLOR}">●</span> right hand'
)


class PreviewWidget(QWidget):
    """Everything about the camera, to be put into a dock. GUI thread only.

    The camera goes on only when a person switches it on, and is released when it is switched off, when
    the preview is hidden and on ``shutdown``.
    """

    def __init__(
        self,
        controller: CameraController,
        settings: PreviewSettings | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("camera_preview")
        self._controller = controller
        self._tasks = Tasks(self)
        self._fetching: Job[None] | None = None
        self._mirror_chosen = False

        self._picker = SourcePicker(settings)
        self._switch = QPushButton()
        self._switch.setObjectName("camera_switch")
        self._switch.setAutoDefault(True)
        self._mirror = QCheckBox("Mirror")
        self._mirror.setObjectName("camera_mirror")
        self._mirror.setToolTip("Show the picture as in a mirror. Landmarks are never mirrored.")
        self._mirror.setChecked(True)
        self._training = QCheckBox("As training sees it")
        self._training.setObjectName("camera_training_view")
        self._training.setToolTip(
            "Show the normalised landmarks, made by the same function that training uses"
        )
        self._numbers = QLabel()
        self._numbers.setObjectName("camera_numbers")
        self._numbers.setProperty("role", "muted")
        self._numbers.setToolTip(
            "Pictures with landmarks per second, time from reading a picture to showing it, and "
            "pictures left out because a newer one was there"
        )
        self._numbers.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._legend = QLabel(_LEGEND)
        self._legend.setObjectName("camera_legend")
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        self._legend.setProperty("role", "muted")
        keeps_its_place = self._legend.sizePolicy()
        keeps_its_place.setRetainSizeWhenHidden(True)
        self._legend.setSizePolicy(keeps_its_place)
        self.view = PictureView()
        self._message = MessagePage()
        self._pages = QStackedWidget()
        self._pages.addWidget(self._message)
        self._pages.addWidget(self.view)
        self._sign = QLabel("Camera is on", self)
        self._sign.setObjectName("camera_sign")
        self._sign.setStyleSheet(
            f"background: {SIGN_COLOR}; color: #ffffff; font-weight: 600;"
            " border-radius: 4px; padding: 3px 8px;"
        )
        self._sign.hide()
        self._lay_out()

        # Hiding may be one step of moving the dock: what counts is whether it is hidden afterwards.
        self._hidden_check = QTimer(self)
        self._hidden_check.setSingleShot(True)
        self._hidden_check.setInterval(0)
        self._hidden_check.timeout.connect(self._release_if_hidden)

        self._picker.picked.connect(self.set_source)
        self._switch.clicked.connect(self._on_switch)
        self._mirror.clicked.connect(self._on_mirror_chosen)
        self._mirror.toggled.connect(self._on_mirror)
        self._training.toggled.connect(self._on_training)
        self._message.button.clicked.connect(self._on_fetch)
        self._message.cancel.clicked.connect(self._on_fetch_cancelled)
        controller.frame_ready.connect(self._on_frame)
        controller.state_changed.connect(self._on_state)
        controller.failed.connect(self._on_failed)
        self._mirror_by_kind()
        self._on_state(controller.state)

    # ------------------------------------------------------------ what the window asks for

    @property
    def source(self) -> str:
        """Index of the chosen camera as text, or the chosen path; empty when there is none."""
        return self._picker.source

    @Slot(str)
    def set_source(self, source: str) -> None:
        """Choose a camera by its index, or a video file, image or folder; does not switch it on."""
        changed = source != self.source
        self._picker.choose(source)
        self._mirror_by_kind()
        if changed and self._controller.state in (CameraState.STARTING, CameraState.ON):
            self._controller.start(source)
        elif self._controller.state is CameraState.OFF and self._fetching is None:
            self._show_off()

    @Slot()
    def switch_on(self) -> None:
        """Switch the chosen camera on, in plain sight: a hidden dock around the preview is shown."""
        if not self.source or self._fetching is not None:
            return
        dock = self.parentWidget()
        if isinstance(dock, QDockWidget) and not self.isVisible():
            dock.show()
            dock.raise_()
        self._controller.start(self.source)

    @Slot()
    def switch_off(self) -> None:
        """Ask the camera to go off; never waits."""
        self._controller.request_stop()

    def shutdown(self, timeout_s: float = 5.0) -> bool:
        """Release camera, models and threads before the window closes; False when one did not end in time."""
        self._on_fetch_cancelled()
        self._tasks.cancel()
        return self._controller.close(timeout_s)

    # ------------------------------------------------------------ the person's choices

    @Slot()
    def _on_switch(self) -> None:
        if self._controller.state is CameraState.OFF:
            self.switch_on()
        else:
            self.switch_off()

    @Slot()
    def _on_mirror_chosen(self) -> None:
        self._mirror_chosen = True

    @Slot(bool)
    def _on_mirror(self, checked: bool) -> None:
        self.view.mirrored = checked
        self.view.update()

    @Slot(bool)
    def _on_training(self, checked: bool) -> None:
        self.view.as_training = checked
        self._controller.wants_training_view = checked
        self.view.update()

    # ------------------------------------------------------------ what the camera tells

    @Slot(object)
    def _on_frame(self, frame: PreviewFrame) -> None:
        self.view.show_frame(frame)
        self._pages.setCurrentWidget(self.view)
        latency_ms = 1000 * (time.monotonic() - frame.captured_s)
        self._numbers.setText(
            f"{frame.fps:.0f} fps · {latency_ms:.0f} ms · {frame.dropped} dropped"
        )

    @Slot(object)
    def _on_state(self, state: CameraState) -> None:
        on = state is not CameraState.OFF
        self._switch.setText("Switch off" if on else "Switch on")
        self._switch.setProperty("role", "secondary" if on else "primary")
        self._switch.style().unpolish(self._switch)
        self._switch.style().polish(self._switch)
        self._switch.setEnabled(
            state is not CameraState.STOPPING and bool(self.source) and self._fetching is None
        )
        if state is CameraState.STOPPING:
            self._switch.setText("Switching off…")
        self._sign.setText(self._sign_text())
        self._sign.setVisible(on)
        self._legend.setVisible(on)
        self._place_sign()
        if state is CameraState.STARTING:
            self._say(f"Starting {self._picker.currentText()}…", "")
        elif not on:
            self._show_off()

    @Slot(str)
    def _on_failed(self, sentence: str) -> None:
        error = self._controller.failure
        if error is None:
            self._say(sentence, "", icon_name="warning")
            return
        rest = "\n".join(part for part in (error.subject, error.hint) if part)
        missing_models = isinstance(error, ModelFileError)
        self._say(f"{error.what}.", rest, icon_name="warning", fetch=missing_models)

    def _show_off(self) -> None:
        self.view.frame = None
        self._numbers.clear()
        self._switch.setEnabled(bool(self.source))
        if self._picker.is_camera:
            self._say(
                "The camera is off",
                "Switch it on to see yourself with the landmarks that training would see.",
            )
        elif self.source:
            self._say(
                "The camera is off",
                f"{Path(self.source).name} stands in for it. Switch it on to see its landmarks.",
            )
        else:
            self._say(
                "No camera was found",
                "Connect one and open the list above, or choose a video file or a folder of images there.",
            )

    def _say(
        self, heading: str, text: str, *, icon_name: str = "camera", fetch: bool = False
    ) -> None:
        self._message.tell(heading, text, icon_name=icon_name, fetch=fetch)
        self._pages.setCurrentWidget(self._message)

    # ------------------------------------------------------------ the landmark models

    @Slot()
    def _on_fetch(self) -> None:
        self._message.tell_waiting("Fetching the landmark models…", "Looking for a source…")
        self._switch.setEnabled(False)
        self._fetching = background(self, _fetch_models, "model fetcher")
        self._fetching.progressed.connect(self._message.show_progress)
        self._tasks.start(self._wait_for_models(self._fetching))

    async def _wait_for_models(self, job: Job[None]) -> None:
        failure = ""
        try:
            await job
        except (SignScopeError, WorkCancelled) as error:
            failure = str(error)
        if job.cancelled:
            return
        self._fetching = None
        if failure:
            self._on_fetch_failed(failure)
            return
        self._show_off()
        if self.isVisible():
            self.switch_on()

    @Slot()
    def _on_fetch_cancelled(self) -> None:
        """Go back to the switch at once; the thread ends when it next looks."""
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None
            self._show_off()

    def _on_fetch_failed(self, sentence: str) -> None:
        self._say(
            "The landmark models could not be fetched", sentence, icon_name="warning", fetch=True
        )
        self._switch.setEnabled(bool(self.source))

    # ------------------------------------------------------------ sign, layout, events

    def _mirror_by_kind(self) -> None:
        """People expect themselves as in a mirror, and a video as it was made."""
        if not self._mirror_chosen:
            self._mirror.setChecked(self._picker.is_camera or not self.source)
            self.view.mirrored = self._mirror.isChecked()

    def _sign_text(self) -> str:
        return "Camera is on" if self._picker.is_camera else "Camera is on (from a file)"

    def _place_sign(self) -> None:
        corner = self._pages.geometry().topLeft()
        self._sign.setMaximumWidth(max(60, self._pages.width() - 16))
        self._sign.adjustSize()
        self._sign.move(corner.x() + 8, corner.y() + 8)
        self._sign.raise_()

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(6)
        top.addWidget(self._picker, 1)
        top.addWidget(self._switch)
        told = QHBoxLayout()
        told.addWidget(self._legend)
        told.addWidget(self._numbers, 1)
        bottom = QHBoxLayout()
        bottom.setSpacing(12)
        bottom.addWidget(self._mirror)
        bottom.addWidget(self._training)
        bottom.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        layout.addLayout(top)
        layout.addWidget(self._pages, 1)
        layout.addLayout(told)
        layout.addLayout(bottom)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the sign within the picture."""
        super().resizeEvent(event)
        self._place_sign()

    def changeEvent(self, event: QEvent) -> None:
        """Take the colours of another theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._message.recolor()
            self.view.update()

    def hideEvent(self, event: QHideEvent) -> None:
        """Release the camera when nobody can see the preview."""
        super().hideEvent(event)
        if event.spontaneous():
            self.switch_off()
        else:
            self._hidden_check.start()

    @Slot()
    def _release_if_hidden(self) -> None:
        if not self.isVisible():
            self.switch_off()


def _fetch_models(progress: Progress) -> None:
    ensure_models(
        progress=lambda _, done, total: progress(done, total),
        cancelled=lambda: progress.cancelled,
    )
