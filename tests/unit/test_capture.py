from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import CameraError
from core.landmarks import capture
from core.landmarks.cameras import list_cameras
from core.landmarks.capture import Camera, ImageArray, open_source

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
