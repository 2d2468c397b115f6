"""Which libraries of the operating system are missing, told before an import would fail without a name.

The wheels of PySide6, MediaPipe and OpenCV bring most of what they link, but not what belongs to the
system's graphics and window system. The tables below are what ``objdump -p`` shows as NEEDED in those
wheels and is not inside them (PySide6 6.11, mediapipe 1.2, opencv 5.0), with the packages of Debian and
Ubuntu. Only the standard library is imported here. On Windows and macOS nothing is ever missing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import SystemLibraryError


@dataclass(frozen=True)
class MissingLibrary:
    """A shared library that does not load, and the package that brings it on Debian and Ubuntu."""

    soname: str
    package: str


_LANDMARKS: Final = {
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libz.so.1": "zlib1g",
}
"""MediaPipe's landmarkers and OpenCV, with or without a window."""

_QT: Final = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libz.so.1": "zlib1g",
    "libzstd.so.1": "libzstd1",
}
"""Qt itself, whatever draws its windows."""

_X11: Final = {
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb.so.1": "libxcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-glx.so.0": "libxcb-glx0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
}
"""Qt's platform plugin for windows on X11."""

_WAYLAND: Final = {
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
}
"""Qt's platform plugin for windows on Wayland."""

_SCREENLESS_PLATFORMS: Final = ("offscreen", "minimal", "minimalegl", "vnc", "linuxfb", "eglfs")


def missing_libraries(*, window: bool = True, landmarks: bool = True) -> list[MissingLibrary]:
    """Name the libraries that do not load, in a stable order, each once.

    Args:
        window: Whether a Qt window is wanted. The libraries of X11 or Wayland are asked for only where
            the environment names such a display; on Qt's offscreen platform neither is.
        landmarks: Whether MediaPipe and OpenCV are wanted. Training alone needs neither.
    """
    if not sys.platform.startswith("linux"):
        return []
    missing = [*_missing_of(_QT if window else {}), *_missing_of(_LANDMARKS if landmarks else {})]
    if window:
        missing += _missing_for_display()
    return list(dict.fromkeys(missing))


def check_system_libraries(*, window: bool = True, landmarks: bool = True) -> None:
    """Raise SystemLibraryError naming every missing library and the one command that installs them all."""
    missing = missing_libraries(window=window, landmarks=landmarks)
    if not missing:
        return
    named = ", ".join(f"{library.soname} (package {library.package})" for library in missing)
    packages = " ".join(dict.fromkeys(library.package for library in missing))
    raise SystemLibraryError(
        "Libraries of the operating system are missing",
        subject=named,
        hint=f"On Debian and Ubuntu: sudo apt-get install {packages}",
    )


def display_available() -> bool:
    """Whether Qt can open a window here: a display that answers, or a platform that needs none.

    Always true on Windows and macOS. On Linux a DISPLAY that is set but refuses counts as no display,
    because Qt would abort the whole process on it.
    """
    if not sys.platform.startswith("linux"):
        return True
    return _platform_asked_for() in _SCREENLESS_PLATFORMS or bool(_displays())


def _platform_asked_for() -> str:
    """Name of the Qt platform asked for in the environment, without its options; empty for none."""
    return os.environ.get("QT_QPA_PLATFORM", "").split(";")[0].split(":")[0]


def _displays() -> list[str]:
    """Kinds of display that can be reached: "wayland", "x11"."""
    asked = _platform_asked_for()
    displays = []
    if asked in ("", "wayland") and _wayland_answers():
        displays.append("wayland")
    if asked in ("", "xcb") and _x11_answers():
        displays.append("x11")
    return displays


def _wayland_answers() -> bool:
    name = os.environ.get("WAYLAND_DISPLAY")
    return bool(name) and (Path(os.environ.get("XDG_RUNTIME_DIR", "")) / str(name)).exists()


def _x11_answers() -> bool:
    if not os.environ.get("DISPLAY"):
        return False
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return True  # the check of the libraries names it
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    refused = bool(xcb.xcb_connection_has_error(connection))
    xcb.xcb_disconnect(connection)
    return not refused


def _missing_for_display() -> list[MissingLibrary]:
    """Give what the reachable display lacks; with two displays, Qt takes the one that works."""
    tables = {"wayland": _WAYLAND, "x11": _X11}
    lacking = [_missing_of(tables[display]) for display in _displays()]
    return min(reversed(lacking), key=len, default=[])


def _missing_of(table: dict[str, str]) -> list[MissingLibrary]:
    return [
        MissingLibrary(soname, package) for soname, package in table.items() if not _loads(soname)
    ]


def _loads(soname: str) -> bool:
    # Loading is the truth: it follows LD_LIBRARY_PATH, the cache of ld.so and what the library needs.
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True
