from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core import system_libraries
from core.errors import SystemLibraryError
from core.system_libraries import (
    MissingLibrary,
    check_system_libraries,
    display_available,
    missing_libraries,
)

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="libraries are checked on Linux only"
)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Linux with a screenless Qt; the libraries put into the set do not load."""
    gone: set[str] = set()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(system_libraries, "_loads", lambda soname: soname not in gone)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    return gone


def show(monkeypatch: pytest.MonkeyPatch, *displays: str) -> None:
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.setattr(system_libraries, "_wayland_answers", lambda: "wayland" in displays)
    monkeypatch.setattr(system_libraries, "_x11_answers", lambda: "x11" in displays)


def test_nothing_missing_passes(without: set[str]) -> None:
    assert missing_libraries() == []
    check_system_libraries()


def test_each_missing_library_is_named_with_its_package_and_one_command(without: set[str]) -> None:
    without |= {"libEGL.so.1", "libGLESv2.so.2", "libgthread-2.0.so.0", "libglib-2.0.so.0"}
    with pytest.raises(SystemLibraryError) as caught:
        check_system_libraries()
    assert "libEGL.so.1 (package libegl1)" in caught.value.subject
    assert "libGLESv2.so.2 (package libgles2)" in caught.value.subject
    assert caught.value.hint == (
        "On Debian and Ubuntu: sudo apt-get install libegl1 libglib2.0-0 libgles2"
    )


def test_only_what_is_wanted_is_asked_for(without: set[str]) -> None:
    without |= {"libGLESv2.so.2", "libfontconfig.so.1"}
    assert missing_libraries(window=False) == [MissingLibrary("libGLESv2.so.2", "libgles2")]
    assert missing_libraries(landmarks=False) == [
        MissingLibrary("libfontconfig.so.1", "libfontconfig1")
    ]
    assert missing_libraries(window=False, landmarks=False) == []


def test_xcb_is_demanded_only_for_a_window_on_x11(
    without: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without |= {"libxcb-cursor.so.0", "libxcb-icccm.so.4"}
    assert missing_libraries() == []
    show(monkeypatch)
    assert missing_libraries() == []
    show(monkeypatch, "x11")
    assert [library.package for library in missing_libraries()] == [
        "libxcb-cursor0",
        "libxcb-icccm4",
    ]
    assert missing_libraries(window=False) == []


def test_with_two_displays_one_that_works_is_enough(
    without: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, "x11", "wayland")
    without |= {"libwayland-client.so.0"}
    assert missing_libraries() == []
    without |= {"libxcb-cursor.so.0"}
    assert missing_libraries() == [MissingLibrary("libxcb-cursor.so.0", "libxcb-cursor0")]
    monkeypatch.setenv("QT_QPA_PLATFORM", "wayland")
    assert missing_libraries() == [MissingLibrary("libwayland-client.so.0", "libwayland-client0")]


def test_other_systems_are_never_asked(without: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    without |= {"libEGL.so.1"}
    monkeypatch.setattr(sys, "platform", "darwin")
    assert missing_libraries() == []
    monkeypatch.delenv("QT_QPA_PLATFORM")
    assert display_available()


@linux_only
@pytest.mark.parametrize(
    ("platform", "expected"),
    [("offscreen", True), ("minimal:enable_fonts", True), ("xcb", False), ("", False)],
)
def test_without_a_display_only_screenless_platforms_count(
    platform: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", platform)
    assert display_available() is expected


@linux_only
def test_a_display_that_does_not_answer_is_no_display(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9")
    assert not display_available()
    (tmp_path / "wayland-9").touch()
    assert display_available()


@linux_only
def test_a_library_that_is_not_there_does_not_load() -> None:
    assert system_libraries._loads("libc.so.6")
    assert not system_libraries._loads("libsignscope-is-not-there.so.0")


def test_no_heavy_import_comes_along() -> None:
    code = "import sys, core.system_libraries; print(*sorted(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert "core.system_libraries" in loaded
    assert not loaded & {"torch", "PySide6", "mediapipe", "cv2", "numpy"}
