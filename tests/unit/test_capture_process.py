from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from core.errors import CameraError
from core.landmarks import capture_process
from core.landmarks.capture_process import CaptureProcess, Picture
from tests.conftest import REPOSITORY
from tests.readers import readers
from tests.unit.test_capture import cv2, write_images, write_one_colour_png, write_video

PLENTY_S = 30.0


def take(capture: CaptureProcess, count: int) -> list[Picture]:
    taken = [capture.take() for _ in range(count)]
    assert all(taken)
    return [picture for picture in taken if picture is not None]


def wait_until(condition: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + PLENTY_S
    while not condition():
        assert time.monotonic() < limit_s, "it did not come"
        time.sleep(0.01)


def the_reader() -> psutil.Process:
    """The only reader that this process has started and not buried."""
    (reader,) = readers()
    return reader


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_video_is_given_in_its_own_time_and_starts_again(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 4, fps=10)
    with CaptureProcess(str(tmp_path / "v.avi")) as capture:
        pictures = take(capture, 10)
        assert capture.label == "v.avi"
        assert capture.dropped == 0
    assert pictures[0].image_bgr.shape == (48, 64, 3)
    times = [picture.timestamp_ms for picture in pictures]
    assert times == [100 * number for number in range(10)]
    shades = [int(picture.image_bgr[0, 0, 0]) for picture in pictures]
    assert np.abs(np.array(shades) - [0, 20, 40, 60, 0, 20, 40, 60, 0, 20]).max() < 6
    passed_s = pictures[3].captured_s - pictures[0].captured_s
    assert passed_s > 0.25, "they are given no sooner than they are due"


def test_a_still_image_is_read_once_and_shown_at_a_calm_rate(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["only.png"])
    with CaptureProcess(str(tmp_path / "f")) as capture:
        take(capture, 2)
        (tmp_path / "f" / "only.png").unlink()  # reading it again would fail
        pictures = take(capture, 3)
    for before, after in itertools.pairwise(pictures):
        assert after.timestamp_ms - before.timestamp_ms >= 200
        assert after.captured_s - before.captured_s >= 0.19


def test_a_picture_larger_than_a_screen_arrives_smaller(tmp_path: Path) -> None:
    ok, data = cv2.imencode(".png", np.full((30, 4000, 3), 9, dtype=np.uint8))
    assert ok
    (tmp_path / "wide.png").write_bytes(data.tobytes())
    with CaptureProcess(str(tmp_path / "wide.png")) as capture:
        (picture,) = take(capture, 1)
    assert picture.image_bgr.shape == (14, 1920, 3)
    assert (picture.image_bgr == 9).all()


def test_what_the_source_cannot_do_is_the_same_sentence(tmp_path: Path) -> None:
    with (
        CaptureProcess(str(tmp_path / "gone.mp4")) as capture,
        pytest.raises(CameraError, match="no such video file") as caught,
    ):
        capture.take()
    assert caught.value.subject == str(tmp_path / "gone.mp4")
    assert caught.value.hint == "Check the path."


def test_a_reader_that_hangs_is_told_and_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture_process, "FRAME_LIMIT_S", 0.5)
    write_images(tmp_path / "f", ["1.png", "2.png"])
    with CaptureProcess(str(tmp_path / "f")) as capture:
        take(capture, 1)
        reader = the_reader()
        reader.suspend()
        with pytest.raises(CameraError, match="Nothing was heard"):
            while capture.take() is not None:  # what came before it hung
                pass
    assert not reader.is_running()


def test_killing_frees_whoever_waits_for_a_reader_that_hangs(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["1.png", "2.png"])
    with CaptureProcess(str(tmp_path / "f")) as capture:
        take(capture, 1)
        the_reader().suspend()
        threading.Timer(0.2, capture.kill).start()
        pictures = list(iter(capture.take, None))
    assert all(isinstance(picture, Picture) for picture in pictures)


def test_a_capture_that_was_killed_before_it_began_starts_no_process(tmp_path: Path) -> None:
    capture = CaptureProcess(str(tmp_path))
    capture.kill()
    with capture:
        assert capture.take() is None
        assert readers() == []


def test_a_reader_that_dies_is_told(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["1.png", "2.png"])
    with CaptureProcess(str(tmp_path / "f")) as capture:
        take(capture, 1)
        the_reader().kill()
        with pytest.raises(CameraError, match="has ended"):
            while capture.take() is not None:
                pass


HOLDS_A_CAPTURE = """
import sys, psutil
sys.path.insert(0, sys.argv[1])
from core.landmarks.capture_process import CaptureProcess
with CaptureProcess(sys.argv[2]) as capture:
    capture.take()
    print(psutil.Process().children()[0].pid, flush=True)
    sys.stdin.read()
"""


def test_the_reader_ends_when_its_parent_is_killed_and_needs_no_installed_core(
    tmp_path: Path,
) -> None:
    """Started elsewhere, where only the parent's own sys.path leads to ``core``."""
    write_images(tmp_path / "f", ["1.png", "2.png"])
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_CAPTURE, str(REPOSITORY), str(tmp_path / "f")],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not has_ended(pid)
        assert str(REPOSITORY) in psutil.Process(pid).cmdline()
        parent.kill()
    wait_until(lambda: has_ended(pid))


def test_the_reader_loads_no_torch_no_mediapipe_and_no_qt() -> None:
    code = (
        "import sys, core.landmarks.capture_process, core.landmarks.capture;"
        "print(sorted({'torch', 'mediapipe', 'PySide6', 'pydantic'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert answer.stdout == "[]\n"


READER_WITH_LITTLE_MEMORY = """
import resource, sys, psutil, core.landmarks.capture
from core.landmarks.capture_process import send_pictures
limit = psutil.Process().memory_info().vms + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
send_pictures(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space is not limited so")
def test_too_little_memory_for_the_pictures_is_a_sentence(tmp_path: Path) -> None:
    write_one_colour_png(tmp_path / "large.png", 9_000, 9_000)
    with subprocess.Popen(
        [sys.executable, "-c", READER_WITH_LITTLE_MEMORY, str(tmp_path / "large.png")],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        said = reader.stdout.read()
    assert b"There is not enough memory to read the pictures" in said
    assert str(tmp_path / "large.png").encode() in said
