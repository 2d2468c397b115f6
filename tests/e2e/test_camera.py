"""The real window with a source that stalls, ends in the way that every other does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.unit.test_capture import write_images, write_video

Start = Callable[..., "subprocess.Popen[str]"]
LIMIT_S = 60.0
CLOSES_WITHIN_S = 20.0
"""Most of it is what a busy machine needs: the preview itself allows five seconds."""

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(sys.platform == "win32", reason="closed by signals, stalled by pipes"),
]


def readers_of(program: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes of the program that read its pictures."""
    return [
        each
        for each in psutil.Process(program.pid).children()
        if "send_pictures" in " ".join(each.cmdline())
    ]


def wait_until(condition: Callable[[], object]) -> None:
    limit_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, "it did not come"
        time.sleep(0.05)


def close(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Ask the window to close as the system does; gives status and errors."""
    program.send_signal(signal.SIGTERM)
    _, errors = program.communicate(timeout=CLOSES_WITHIN_S)
    told = [line for line in errors.splitlines() if "propagateSizeHints" not in line]
    return program.returncode, "\n".join(told)


def stalled(folder: Path, kind: str) -> Path:
    """Make a source that never gives a picture."""
    if kind == "folder":
        write_images(folder / "images", ["2.png"])
        os.mkfifo(folder / "images" / "1.png")
        return folder / "images"
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_the_window_closes_while_its_source_is_a_pipe(
    start: Start, small_config: Path, tmp_path: Path, kind: str
) -> None:
    source = stalled(tmp_path, kind)
    program = start("--config", small_config, "--camera", source, SIGNSCOPE_EXIT_AFTER_S="6")
    _, errors = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 0, errors


def test_the_window_closes_while_the_reader_of_its_camera_hangs(
    start: Start, small_config: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "v.avi", 12)
    program = start("--config", small_config, "--camera", tmp_path / "v.avi")
    wait_until(lambda: readers_of(program))
    (reader,) = readers_of(program)
    wait_until(lambda: reader.num_threads() > 1 and reader.cpu_times().user > 0.2)
    reader.suspend()
    assert close(program) == (0, "")
    assert not reader.is_running()


LANDMARKS_NEVER_END = """
import sys, threading
import core.landmarks.detector
from main import main
core.landmarks.detector.LandmarkDetector = lambda: threading.Event().wait()
sys.exit(main())
"""


def test_the_window_closes_while_the_landmark_models_hang(
    small_config: Path, tmp_path: Path
) -> None:
    """As on a network share that went away between the check of the models and their loading."""
    write_video(tmp_path / "v.avi", 12)
    arguments = ("--config", small_config, "--camera", tmp_path / "v.avi")
    with subprocess.Popen(
        [sys.executable, "-c", LANDMARKS_NEVER_END, *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"SIGNSCOPE_EXIT_AFTER_S": "3"},
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            _, errors = program.communicate(timeout=LIMIT_S)
        finally:
            program.kill()
    assert program.returncode == 0, errors
