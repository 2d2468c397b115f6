"""Frames from a camera, a video file or a folder of images. The only module that imports cv2.

A source belongs to one thread at a time: the one that opened it reads and closes it. A read may take for ever
(a driver, a network share) and cannot be interrupted: where a window must stay alive, read through
:mod:`core.landmarks.capture_process`. Frames are never mirrored here; mirroring is a matter of display.
"""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from core.errors import CameraError
from core.landmarks.cameras import camera_name
from core.system_libraries import check_system_libraries
from signscope.closing import Closing
from signscope.files import read_regular

check_system_libraries(window=False)

# Read by OpenCV when it is imported: what goes wrong is told by our own errors, and a camera that was
# pulled out is noticed within seconds instead of ten.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")
LARGEST_MEGAPIXELS: Final = 100
"""Larger pictures are refused before memory is taken for them: telephones make 50 megapixels, few cameras 100."""
os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(LARGEST_MEGAPIXELS * 1_000_000)
_qt_before = {
    name: os.environ.get(name) for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")
}
import cv2  # noqa: E402

# OpenCV points Qt at the plugins of its own wheel, on which PySide6 would fail.
for _name, _value in _qt_before.items():
    if _value is None:
        os.environ.pop(_name, None)
    else:
        os.environ[_name] = _value

ImageArray = npt.NDArray[np.uint8]

FALLBACK_FPS: Final = 25.0
"""Frame rate of images, and of videos and cameras that do not know theirs."""
LARGEST_IMAGE_FILE: Final = 512 << 20
"""Bytes of the largest image file that is read: the largest picture, not compressed, in 16 bits."""
IMAGE_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_CAMERA_SIZE: Final = (1280, 720)
_CAMERA_FPS: Final = 30


@dataclass(frozen=True)
class Frame:
    """One image as the source gave it."""

    image_bgr: ImageArray
    """(height, width, 3) uint8."""
    index: int
    """Number of the frame since the source was opened, from 0."""
    timestamp_ms: int
    """Time since the source was opened; strictly rising."""


class FrameSource(Protocol):
    """Where frames come from. Close it in the thread that reads it."""

    label: str
    """What a person calls it: the camera's name or the file's."""

    @property
    def fps(self) -> float:
        """Nominal frames per second."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames come in their own time (a camera) or as fast as they are read."""
        ...

    def read(self) -> Frame | None:
        """Give the next frame, None after the last. Raises CameraError when the source fails."""
        ...

    def close(self) -> None:
        """Release the device or file; may be called again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class _Source(Closing):
    """What all sources share: closing at the end of a ``with`` block."""

    def __init__(self, label: str, fps: float, *, live: bool) -> None:
        self.label = label
        self.fps = fps
        self.live = live
        self._index = 0

    def close(self) -> None:
        """Release the device or file; may be called again."""

    def _next(self, image: ImageArray, timestamp_ms: int | None = None) -> Frame:
        if timestamp_ms is None:
            timestamp_ms = round(self._index * 1000 / self.fps)
        frame = Frame(image, self._index, timestamp_ms)
        self._index += 1
        return frame


class Camera(_Source):
    """A camera of this computer, on from its creation until ``close``.

    Raises CameraError when there is none of that index, when it may not be used or is used already.
    """

    def __init__(self, index: int) -> None:
        label = camera_name(index)
        self._capture = _open_camera(index)
        try:
            ok, first = self._capture.read()
            if not ok:
                raise CameraError(
                    "The camera gives no picture",
                    subject=label,
                    hint="Another program may be using it. Close that program and switch the camera on again.",
                )
        except BaseException:
            self._capture.release()
            raise
        super().__init__(label, _plausible_fps(self._capture.get(cv2.CAP_PROP_FPS)), live=True)
        self._waiting: ImageArray | None = first
        self._started_s = time.monotonic()
        self._last_ms = -1

    def read(self) -> Frame | None:
        """Wait for the next picture; CameraError when the camera was unplugged. Never gives None."""
        image, self._waiting = self._waiting, None
        if image is None:
            ok, image = self._capture.read()
            if not ok or image is None:
                raise CameraError(
                    "The camera stopped giving pictures",
                    subject=self.label,
                    hint="It may have been unplugged. Connect it and switch it on again.",
                )
        now_ms = round((time.monotonic() - self._started_s) * 1000)
        self._last_ms = max(self._last_ms + 1, now_ms)
        return self._next(image, self._last_ms)

    def close(self) -> None:
        """Switch the camera off."""
        self._capture.release()


class VideoFile(_Source):
    """A video file, read frame by frame. Raises CameraError when it cannot be read as video."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._failed_hint = "It may be damaged or of an unknown kind; try another file."
        if not self._capture.isOpened():
            raise CameraError(
                "The file cannot be read as video", subject=str(path), hint=self._failed_hint
            )
        size = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        if math.prod(self._capture.get(side) for side in size) > LARGEST_MEGAPIXELS * 1e6:
            self._capture.release()
            raise _too_large(path)
        super().__init__(path.name, _plausible_fps(self._capture.get(cv2.CAP_PROP_FPS)), live=False)

    def read(self) -> Frame | None:
        """Give the next frame, None after the last; CameraError when not even one can be decoded."""
        ok, image = self._capture.read()
        if ok and image is not None:
            return self._next(image)
        if self._index == 0:
            raise CameraError(
                "No picture in the video can be read",
                subject=str(self._path),
                hint=self._failed_hint,
            )
        return None

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class ImageFolder(_Source):
    """Images in the order of their names, numbers counted as numbers."""

    def __init__(self, label: str, paths: list[Path]) -> None:
        super().__init__(label, FALLBACK_FPS, live=False)
        self._paths = paths

    def read(self) -> Frame | None:
        """Give the next image, None after the last; CameraError naming one that cannot be read."""
        if self._index >= len(self._paths):
            return None
        return self._next(_read_image(self._paths[self._index]))


def open_source(source: str | int | Path) -> FrameSource:
    """Open a camera by its index (also as text), a video file, an image, or a folder of images.

    Raises CameraError with what to do when that fails. Opening a camera may take a second or more.
    """
    text = str(source)
    if text.isdecimal():
        return Camera(int(text))
    try:
        return _open_path(Path(text).expanduser())
    except OSError as error:
        raise CameraError(
            f"The file or folder cannot be read ({error.strerror})",
            subject=text,
            hint="Check its permissions and its place, or choose another one.",
        ) from error


def _open_path(path: Path) -> FrameSource:
    if path.is_dir():
        paths = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES), key=_natural
        )
        if not paths:
            raise CameraError(
                "There are no images in the folder",
                subject=str(path),
                hint=f"Choose a folder of images ({', '.join(IMAGE_SUFFIXES)}) or a video file.",
            )
        return ImageFolder(path.name, paths)
    if not path.exists():
        raise CameraError(
            "There is no such video file or folder", subject=str(path), hint="Check the path."
        )
    if not path.is_file():
        raise CameraError(
            "This is neither a file nor a folder",
            subject=str(path),
            hint="A pipe or a device gives no pictures here; choose a video file or a folder of images.",
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFolder(path.name, [path])
    return VideoFile(path)


def fit(image_bgr: ImageArray, largest_side: int) -> ImageArray:
    """Give the image itself, or a smaller copy where a side is longer than ``largest_side`` pixels."""
    height, width = image_bgr.shape[:2]
    scale = largest_side / max(height, width)
    if scale >= 1:
        return image_bgr
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return np.asarray(cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def to_bgra(image_bgr: ImageArray) -> ImageArray:
    """Give a new (height, width, 4) image whose bytes are those of Qt's Format_RGB32."""
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2BGRA), dtype=np.uint8)


def to_rgb(image_bgr: ImageArray) -> ImageArray:
    """Give a new (height, width, 3) image in the order red, green, blue."""
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _open_camera(index: int) -> Any:
    linux = sys.platform.startswith("linux")
    device = Path(f"/dev/video{index}")
    if linux and not device.exists():
        raise CameraError(
            "There is no such camera",
            subject=f"camera {index}",
            hint="Connect a camera, or choose a video file or a folder of images instead.",
        )
    if linux and not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(
            "The camera may not be used",
            subject=f"{camera_name(index)} ({device})",
            hint="Add yourself to the group 'video' (sudo usermod -aG video $USER) and log in again.",
        )
    capture = cv2.VideoCapture(index, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
    if not capture.isOpened():
        capture.release()
        raise CameraError(
            "The camera cannot be opened",
            subject=camera_name(index),
            hint="Another program may be using it, or the system may not allow SignScope to use it. "
            "Close that program or allow it in the system's privacy settings, and try again.",
        )
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, _CAMERA_SIZE[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, _CAMERA_SIZE[1])
    capture.set(cv2.CAP_PROP_FPS, _CAMERA_FPS)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # an old picture is of no use
    return capture


def _read_image(path: Path) -> ImageArray:
    # Read by Python and only decoded by OpenCV, which does not open every path on Windows.
    try:
        content = read_regular(path, limit=LARGEST_IMAGE_FILE)
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise _unreadable(path, f" ({error.strerror})") from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise (_too_large(path) if "MAX_IMAGE" in str(error) else _unreadable(path)) from error
    if image is None:
        raise _unreadable(path)
    return np.asarray(image, dtype=np.uint8)


def _unreadable(path: Path, reason: str = "") -> CameraError:
    return CameraError(
        f"The image cannot be read{reason}",
        subject=str(path),
        hint="Remove it from the folder or replace it.",
    )


def _too_large(path: Path) -> CameraError:
    return CameraError(
        f"The picture has more than {LARGEST_MEGAPIXELS} megapixels, too many for a preview",
        subject=str(path),
        hint="Make it smaller with an image program, or choose another one.",
    )


def _plausible_fps(fps: float) -> float:
    return fps if 1 <= fps <= 240 else FALLBACK_FPS


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Sort key by which image 2 comes before image 10."""
    digits = "".join(character if character.isdigit() else " " for character in path.stem)
    return (*((int(number), "") for number in digits.split()), (0, path.name))
