"""The camera preview: a picker, a switch, the picture with its landmarks, and plain words when it fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QColor, QHideEvent, QImage, QPainter, QPaintEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.camera.camera_controller import CameraController, CameraState, PreviewFrame
from app.camera.model_fetcher import ModelFetcher
from app.camera.overlay import (
    LEFT_COLOR,
    RIGHT_COLOR,
    ViewColors,
    blank,
    draw_picture,
    draw_training_view,
)
from app.icons import icon
from core.errors import ModelFileError
from core.landmarks.cameras import list_cameras

SIGN_COLOR: Final = "#c62828"
_LEGEND: Final = (
    f'<span style="color:{LEFT_COLOR}">●</span> left hand&nbsp;&nbsp; '
    f'<span style="color:{RIGHT_COLOR}">●</span> right hand'
)
_VIDEO: Final = "choose a video"
_FOLDER: Final = "choose a folder"
_VIDEO_FILTER: Final = (
    "Videos and images (*.mp4 *.mov *.avi *.mkv *.webm *.m4v *.png *.jpg *.jpeg *.bmp *.webp);;"
    "All files (*)"
)


class PreviewSettings(Protocol):
    """What the preview remembers; ``app.settings.WindowSettings`` is one."""

    camera_source: str
    last_folder: Path


class PictureView(QWidget):
    """Paints the newest frame, or what training sees of it. GUI thread only."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("camera_picture")
        self.setAccessibleName("Camera picture")
        self.setMinimumSize(200, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.frame: PreviewFrame | None = None
        self.mirrored = True
        self.as_training = False

    def show_frame(self, frame: PreviewFrame) -> None:
        """Draw this frame from now on."""
        self.frame = frame
        self.update()

    def picture(self) -> QImage:
        """Give what is shown as an RGB32 image of the view's size in device pixels."""
        ratio = self.devicePixelRatioF()
        area = QRectF(self.rect())
        frame = self.frame
        training = self.as_training and frame is not None and frame.training_view is not None
        colors = self._colors()
        image = blank(
            self.width(), self.height(), ratio, colors.background if training else QColor("#0b0d10")
        )
        if frame is None:
            return image
        painter = QPainter(image)
        if self.as_training and frame.training_view is not None:
            draw_training_view(painter, area, frame.training_view, colors)
        else:
            draw_picture(painter, area, frame, mirrored=self.mirrored)
        painter.end()
        return image

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the picture."""
        painter = QPainter(self)
        painter.drawImage(0, 0, self.picture())
        painter.end()

    def _colors(self) -> ViewColors:
        palette = self.palette()
        background = palette.color(QPalette.ColorRole.Base)
        dark = background.lightness() < 128
        return ViewColors(
            background=background,
            text=palette.color(QPalette.ColorRole.Text),
            muted=palette.color(QPalette.ColorRole.PlaceholderText),
            faint=palette.color(QPalette.ColorRole.Mid),
            left=QColor(LEFT_COLOR if dark else "#b85400"),
            right=QColor(RIGHT_COLOR if dark else "#0072b2"),
        )


class _MessagePage(QWidget):
    """Icon, heading, text and what can be done about it, in the middle of the preview."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("camera_message")
        self._icon = QLabel()
        self._icon.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.heading = QLabel()
        self.heading.setObjectName("camera_message_heading")
        self.heading.setProperty("role", "heading")
        self.text = QLabel()
        self.text.setObjectName("camera_message_text")
        self.text.setProperty("role", "muted")
        for label in (self.heading, self.text):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button = QPushButton("Fetch models")
        self.button.setObjectName("camera_fetch")
        self.button.setProperty("role", "primary")
        self.button.setAutoDefault(True)
        self.progress = QProgressBar()
        self.progress.setObjectName("camera_fetch_progress")
        self.progress.setTextVisible(False)
        self.progress.setFixedWidth(240)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 16, 20, 16)
        layout.setSpacing(6)
        layout.addStretch(1)
        for widget in (self._icon, self.heading, self.text):
            layout.addWidget(widget)
        layout.addSpacing(4)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        layout.addWidget(self.progress)
        layout.setAlignment(self.progress, Qt.AlignmentFlag.AlignHCenter)
        layout.addStretch(1)
        self._icon_name = "camera"
        self.tell("", "")

    def tell(
        self, heading: str, text: str, *, icon_name: str = "camera", fetch: bool = False
    ) -> None:
        """Show a message, with the button that fetches the models where that helps."""
        self.heading.setText(heading)
        self.text.setText(text)
        self.text.setVisible(bool(text))
        self.button.setVisible(fetch)
        self.progress.hide()
        self._icon_name = icon_name
        self.recolor()

    def recolor(self) -> None:
        """Take the colours of the theme in force."""
        color = self.palette().color(QPalette.ColorRole.PlaceholderText).name()
        self._icon.setPixmap(icon(self._icon_name, color).pixmap(QSize(32, 32)))


class _Picker(QComboBox):
    """A list that looks for cameras anew each time it is opened."""

    about_to_open = Signal()

    def showPopup(self) -> None:
        """Look for cameras, then open."""
        self.about_to_open.emit()
        super().showPopup()


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
        self._settings = settings
        self._fetcher = ModelFetcher(self)
        self._mirror_chosen = False
        self._dialog: QFileDialog | None = None

        self._picker = _Picker()
        self._picker.setObjectName("camera_picker")
        self._picker.setAccessibleName("Camera")
        self._picker.setToolTip("Which camera, video file or folder of images is shown")
        self._picker.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._picker.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._picker.setMinimumContentsLength(12)
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
        self._message = _MessagePage()
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

        self._fill_picker(self._remembered_source())
        self._picker.about_to_open.connect(self._look_for_cameras)
        self._picker.activated.connect(self._on_picked)
        self._switch.clicked.connect(self._on_switch)
        self._mirror.clicked.connect(self._on_mirror_chosen)
        self._mirror.toggled.connect(self._on_mirror)
        self._training.toggled.connect(self._on_training)
        self._message.button.clicked.connect(self._on_fetch)
        self._fetcher.progressed.connect(self._on_fetch_progress)
        self._fetcher.fetched.connect(self._on_fetched)
        self._fetcher.failed.connect(self._on_fetch_failed)
        controller.frame_ready.connect(self._on_frame)
        controller.state_changed.connect(self._on_state)
        controller.failed.connect(self._on_failed)
        self._mirror_by_kind()
        self._on_state(controller.state)

    # ------------------------------------------------------------ what the window asks for

    @property
    def source(self) -> str:
        """Index of the chosen camera as text, or the chosen path; empty when there is none."""
        value = self._picker.currentData()
        return value if isinstance(value, str) and value not in (_VIDEO, _FOLDER) else ""

    @Slot(str)
    def set_source(self, source: str) -> None:
        """Choose a camera by its index, or a video file, image or folder; does not switch it on."""
        changed = source != self.source
        self._fill_picker(source)
        self._mirror_by_kind()
        if self._settings is not None:
            self._settings.camera_source = source
        if changed and self._controller.state in (CameraState.STARTING, CameraState.ON):
            self._controller.start(source)
        elif self._controller.state is CameraState.OFF and not self._fetcher.running:
            self._show_off()

    @Slot()
    def switch_on(self) -> None:
        """Switch the chosen camera on, in plain sight: a hidden dock around the preview is shown."""
        if not self.source or self._fetcher.running:
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
        until_s = time.monotonic() + timeout_s
        fetcher_stopped = self._fetcher.stop(timeout_s)
        return self._controller.close(max(0.0, until_s - time.monotonic())) and fetcher_stopped

    # ------------------------------------------------------------ the person's choices

    @Slot()
    def _look_for_cameras(self) -> None:
        self._fill_picker(self.source)

    @Slot(int)
    def _on_picked(self, index: int) -> None:
        value = self._picker.itemData(index)
        if value in (_VIDEO, _FOLDER):
            self._fill_picker(self._chosen)
            self._ask_for_path(folder=value == _FOLDER)
        elif isinstance(value, str) and value != self._chosen:
            self.set_source(value)

    def _ask_for_path(self, *, folder: bool) -> None:
        dialog = QFileDialog(self)
        dialog.setObjectName("camera_path_dialog")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if folder:
            dialog.setWindowTitle("Folder of images instead of a camera")
            dialog.setFileMode(QFileDialog.FileMode.Directory)
        else:
            dialog.setWindowTitle("Video file instead of a camera")
            dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
            dialog.setNameFilter(_VIDEO_FILTER)
        if self._settings is not None:
            dialog.setDirectory(str(self._settings.last_folder))
        dialog.fileSelected.connect(self._on_path_chosen)
        dialog.open()

    @Slot(str)
    def _on_path_chosen(self, path: str) -> None:
        if self._settings is not None:
            self._settings.last_folder = Path(path).parent
        self.set_source(path)

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
            state is not CameraState.STOPPING and bool(self.source) and not self._fetcher.running
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
        if self.source.isdigit():
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
        self._say("Fetching the landmark models…", "Looking for a source…")
        self._message.progress.setRange(0, 0)
        self._message.progress.show()
        self._switch.setEnabled(False)
        self._fetcher.start()

    @Slot(str, int, int)
    def _on_fetch_progress(self, name: str, done: int, total: int) -> None:
        if not self._fetcher.running:
            return
        mib = 1 << 20
        amount = f"{done / mib:.1f} of {total / mib:.1f} MB" if total else f"{done / mib:.1f} MB"
        self._message.text.setText(f"{name}\n{amount}")
        self._message.text.show()
        self._message.progress.setRange(0, 1000 if total else 0)
        if total:
            self._message.progress.setValue(1000 * done // total)

    @Slot()
    def _on_fetched(self) -> None:
        self._show_off()
        if self.isVisible():
            self.switch_on()

    @Slot(str)
    def _on_fetch_failed(self, sentence: str) -> None:
        self._say(
            "The landmark models could not be fetched", sentence, icon_name="warning", fetch=True
        )
        self._switch.setEnabled(bool(self.source))

    # ------------------------------------------------------------ picker, sign, layout, events

    def _remembered_source(self) -> str:
        remembered = self._settings.camera_source if self._settings is not None else ""
        return (
            remembered if remembered.isdigit() or (remembered and Path(remembered).exists()) else ""
        )

    def _fill_picker(self, chosen: str) -> None:
        """List the cameras and the chosen source, which is the first camera when none was chosen."""
        cameras = list_cameras()
        self._picker.clear()
        for camera in cameras:
            self._picker.addItem(camera.name, str(camera.index))
        if chosen and self._picker.findData(chosen) < 0:
            name = f"Camera {chosen}" if chosen.isdigit() else Path(chosen).name
            self._picker.addItem(name, chosen)
            self._picker.setItemData(self._picker.count() - 1, chosen, Qt.ItemDataRole.ToolTipRole)
        if self._picker.count() == 0:
            self._picker.addItem("No camera found", "")
        self._picker.insertSeparator(self._picker.count())
        self._picker.addItem("Video file…", _VIDEO)
        self._picker.addItem("Folder of images…", _FOLDER)
        self._picker.setCurrentIndex(max(0, self._picker.findData(chosen)) if chosen else 0)
        self._chosen = self.source

    def _mirror_by_kind(self) -> None:
        """People expect themselves as in a mirror, and a video as it was made."""
        if not self._mirror_chosen:
            self._mirror.setChecked(self.source.isdigit() or not self.source)
            self.view.mirrored = self._mirror.isChecked()

    def _sign_text(self) -> str:
        if self._chosen.isdigit():
            return "Camera is on"
        return f"Camera is on ({'images' if Path(self._chosen).is_dir() else 'video'})"

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
