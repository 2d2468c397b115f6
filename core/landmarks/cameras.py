"""Which cameras there are, told without switching one on and without OpenCV."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CameraInfo:
    """A camera that can be asked for by its index."""

    index: int
    name: str


def list_cameras() -> list[CameraInfo]:
    """Name the cameras without switching one on.

    On Linux from what the kernel knows. Windows and macOS do not tell without opening each camera,
    which would light its lamp: there the first three indices are offered unseen.
    """
    if not sys.platform.startswith("linux"):
        return [CameraInfo(index, camera_name(index)) for index in range(3)]
    found = []
    for node in Path("/sys/class/video4linux").glob("video*"):
        # A camera has further nodes for its metadata; pictures come from its node of index 0.
        with contextlib.suppress(OSError, ValueError):
            if int((node / "index").read_text()) == 0:
                index = int(node.name.removeprefix("video"))
                found.append(CameraInfo(index, camera_name(index)))
    return sorted(found, key=lambda camera: camera.index)


def camera_name(index: int) -> str:
    """Name of a camera as the system knows it, or "Camera 0" and so on."""
    with contextlib.suppress(OSError):
        text = Path(f"/sys/class/video4linux/video{index}/name").read_text(encoding="utf-8")
        if text.strip():
            return text.strip()
    return f"Camera {index}"
