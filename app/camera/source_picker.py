"""The choice of what the preview shows: a camera, a video file or a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QComboBox, QFileDialog, QSizePolicy, QWidget

from app.wheel import ComboBox
from core.landmarks.cameras import list_cameras

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


class SourcePicker(ComboBox):
    """A list of sources that looks for cameras anew each time it is opened. GUI thread only.

    It never looks at a chosen path: a network share that is away would hang the window.
    """

    picked = Signal(str)
    """A person chose another source."""

    def __init__(
        self, settings: PreviewSettings | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("camera_picker")
        self.setAccessibleName("Camera")
        self.setToolTip("Which camera, video file or folder of images is shown")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self._settings = settings
        self._source = ""
        self._fill(settings.camera_source if settings is not None else "")
        self.activated.connect(self._on_activated)

    @property
    def source(self) -> str:
        """Index of the chosen camera as text, or the chosen path; empty when there is none."""
        return self._source

    @property
    def is_camera(self) -> bool:
        """Whether a camera is chosen, and not a file that stands in for one."""
        return self._source.isdigit()

    def choose(self, source: str) -> None:
        """Choose a camera by its index, or a video file, image or folder, and remember it."""
        self._fill(source)
        if self._settings is not None:
            self._settings.camera_source = source

    def showPopup(self) -> None:
        """Look for cameras, then open."""
        self._fill(self._source)
        super().showPopup()

    def _fill(self, chosen: str) -> None:
        """List the cameras and the chosen source, which is the first camera when none was chosen."""
        self.clear()
        for camera in list_cameras():
            self.addItem(camera.name, str(camera.index))
        if chosen and self.findData(chosen) < 0:
            self.addItem(f"Camera {chosen}" if chosen.isdigit() else Path(chosen).name, chosen)
            self.setItemData(self.count() - 1, chosen, Qt.ItemDataRole.ToolTipRole)
        if self.count() == 0:
            self.addItem("No camera found", "")
        self.insertSeparator(self.count())
        self.addItem("Video file…", _VIDEO)
        self.addItem("Folder of images…", _FOLDER)
        self.setCurrentIndex(max(0, self.findData(chosen)) if chosen else 0)
        self._source = str(self.currentData())

    @Slot(int)
    def _on_activated(self, index: int) -> None:
        value = self.itemData(index)
        if value in (_VIDEO, _FOLDER):
            self._fill(self._source)
            self._ask_for_path(folder=value == _FOLDER)
        elif isinstance(value, str) and value != self._source:
            self.picked.emit(value)

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
        self.picked.emit(path)
