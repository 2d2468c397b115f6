from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import CameraError
from core.landmarks import capture
from core.landmarks.cameras import list_cameras
from core.landmarks.capture import Camera, ImageArray, open_source
from tests.conftest import REPOSITORY

cv2: Any = vars(capture)["cv2"]  # imported there, and only there, with Qt kept out of its way
NOT_A_CAMERA = 4711


def picture(value: int) -> ImageArray:
    return np.full((48, 64, 3), value, dtype=np.uint8)


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    for number, name in enumerate(names):
        ok, data = cv2.imencode(".png", picture(10 * number))
        assert ok
        (folder / name).write_bytes(data.tobytes())


def write_video(path: Path, frames: int, fps: float = 20.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(picture(20 * number))
    writer.release()


class PluggedCamera:
    """Stands for an opened cv2.VideoCapture that gives so many pictures and then no more."""

    def __init__(self, pictures: int) -> None:
        self.left = pictures
        self.released = False

    def read(self) -> tuple[bool, ImageArray | None]:
        self.left -= 1
        return (True, picture(7)) if self.left >= 0 else (False, None)

    def get(self, prop: int) -> float:
        return 30.0

    def release(self) -> None:
        self.released = True


def plug_in(monkeypatch: pytest.MonkeyPatch, pictures: int) -> PluggedCamera:
    camera = PluggedCamera(pictures)
    monkeypatch.setattr(capture, "_open_camera", lambda index: camera)
    return camera


def test_a_folder_gives_its_images_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["frame1.png", "frame2.png", "frame10.png"])
    (tmp_path / "f" / "notes.txt").write_text("not an image")
    with open_source(tmp_path / "f") as source:
        assert not source.live
        frames = list(iter(source.read, None))
    assert [frame.image_bgr[0, 0, 0] for frame in frames] == [0, 10, 20]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.timestamp_ms for frame in frames] == [0, 40, 80]


def test_one_image_is_a_source_of_one_frame(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["übung.png"])
    with open_source(str(tmp_path / "f" / "übung.png")) as source:
        frame = source.read()
        assert frame is not None
        assert frame.image_bgr.shape == (48, 64, 3)
        assert source.read() is None


def test_a_video_gives_every_frame_with_rising_times_then_none(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 7)
    with open_source(str(tmp_path / "v.avi")) as source:
        assert source.fps == 20
        assert source.label == "v.avi"
        frames = list(iter(source.read, None))
        assert source.read() is None
    assert [frame.timestamp_ms for frame in frames] == [0, 50, 100, 150, 200, 250, 300]
    assert abs(int(frames[3].image_bgr[0, 0, 0]) - 60) < 6


@pytest.mark.parametrize("name", ["missing.mp4", "missing_folder", ""])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "nowhere" / name)
    with pytest.raises(CameraError, match="no such video") as caught:
        open_source(path)
    assert caught.value.subject == path


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "letter.mp4"
    path.write_text("Dear all, this is not a video.")
    with pytest.raises(CameraError, match="cannot be read as video") as caught:
        open_source(path)
    assert caught.value.subject == str(path)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["1.png", "2.png"])
    (tmp_path / "f" / "2.png").write_bytes(b"\x89PNG broken")
    with open_source(tmp_path / "f") as source:
        assert source.read() is not None
        with pytest.raises(CameraError, match=r"2\.png"):
            source.read()


def test_a_folder_without_images_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no images") as caught:
        open_source(tmp_path)
    assert ".png" in caught.value.hint


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(CameraError) as caught:
        open_source(NOT_A_CAMERA)
    assert caught.value.hint


def test_a_camera_that_another_program_uses_is_told_and_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = plug_in(monkeypatch, pictures=0)
    with pytest.raises(CameraError, match="gives no picture") as caught:
        open_source("0")
    assert "Another program" in caught.value.hint
    assert camera.released


def test_a_camera_gives_pictures_with_rising_times_until_unplugged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = plug_in(monkeypatch, pictures=5)
    with open_source(0) as source:
        assert isinstance(source, Camera)
        assert source.live
        assert source.fps == 30
        times = []
        for _ in range(5):
            frame = source.read()
            assert frame is not None
            times.append(frame.timestamp_ms)
        assert all(a < b for a, b in itertools.pairwise(times))
        with pytest.raises(CameraError, match="stopped giving pictures") as caught:
            source.read()
        assert "unplugged" in caught.value.hint
    assert camera.released


def test_cameras_are_listed_without_opening_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a camera was opened")

    monkeypatch.setattr(cv2, "VideoCapture", refuse)
    cameras = list_cameras()
    assert [camera.index for camera in cameras] == sorted({camera.index for camera in cameras})
    assert all(camera.name for camera in cameras)


def test_conversions_keep_colours_in_their_places() -> None:
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[...] = (10, 20, 30)
    assert capture.to_rgb(image)[0, 0].tolist() == [30, 20, 10]
    assert capture.to_bgra(image)[0, 0].tolist() == [10, 20, 30, 255]
    assert capture.to_bgra(image).shape == (2, 3, 4)


@pytest.mark.parametrize("module", ["core.landmarks.capture", "core.landmarks.detector"])
def test_importing_leaves_qt_alone(module: str) -> None:
    code = (
        f"import os, sys, {module};"
        "print(os.environ.get('QT_QPA_PLATFORM_PLUGIN_PATH'), os.environ.get('QT_QPA_FONTDIR'),"
        " 'PySide6' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QT_QPA_FONT")}
    environment["QT_QPA_PLATFORM_PLUGIN_PATH"] = "/mine"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.split() == ["/mine", "None", "False"]


def test_both_opencv_wheels_are_of_one_version() -> None:
    from importlib.metadata import version

    assert version("opencv-python") == version("opencv-contrib-python")
    assert version("opencv-python").startswith(cv2.__version__)


# ---------------------------------------------------------------- what is no picture, and too large a one


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes among its files")
def test_a_pipe_in_the_folder_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["1.png"])
    os.mkfifo(tmp_path / "f" / "2.png")
    with open_source(tmp_path / "f") as source:
        source.read()
        with pytest.raises(CameraError, match="not a regular file") as caught:
            source.read()
    assert caught.value.subject == str(tmp_path / "f" / "2.png")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes among its files")
@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.png", "zero.mp4"])
def test_a_pipe_or_a_device_as_the_source_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.symlink_to("/dev/zero") if name.startswith("zero") else os.mkfifo(path)
    with pytest.raises(CameraError, match="neither a file nor a folder") as caught:
        open_source(path)
    assert caught.value.subject == str(path)


def test_an_endless_image_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(50 << 30)
    with (
        open_source(tmp_path / "sparse.png") as source,
        pytest.raises(CameraError, match="larger than"),
    ):
        source.read()


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="cannot be read") as caught:
        open_source(tmp_path / ("x" * 1000))
    assert "name too long" in caught.value.what.lower()


def write_one_colour_png(path: Path, width: int, height: int) -> None:
    """A PNG of any size that is small as a file and made without a picture in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


READ_WITH_LITTLE_MEMORY = """
import resource, sys
from core.landmarks.capture import open_source
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print(open_source(sys.argv[1]).read().image_bgr.shape)
except Exception as error:
    print(type(error).__name__, error)
"""


def read_with_little_memory(path: Path, spare_mib: int) -> str:
    """Read a picture in a process that may take so much memory more; gives what it says."""
    answer = subprocess.run(
        [sys.executable, "-c", READ_WITH_LITTLE_MEMORY, str(path), str(spare_mib << 20)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    return answer.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured as Linux tells it")
def test_a_picture_of_900_megapixels_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    write_one_colour_png(tmp_path / "huge.png", 30_000, 30_000)
    assert "more than 100 megapixels" in read_with_little_memory(tmp_path / "huge.png", 64)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured as Linux tells it")
def test_too_little_memory_for_a_picture_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    write_one_colour_png(tmp_path / "large.png", 9_000, 9_000)
    assert read_with_little_memory(tmp_path / "large.png", 100) == "MemoryError \n"
    assert read_with_little_memory(tmp_path / "large.png", 1000) == "(9000, 9000, 3)\n"


def test_a_smaller_copy_keeps_shape_and_small_images_stay_themselves() -> None:
    image = np.full((900, 1600, 3), 5, dtype=np.uint8)
    assert capture.fit(image, 1600) is image
    assert capture.fit(image, 800).shape == (450, 800, 3)
    assert capture.fit(image[:1], 16).shape == (1, 16, 3)
