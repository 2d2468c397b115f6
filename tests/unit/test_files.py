"""Files survive a power cut whole or not at all, on every system; mocks stand only for what this one is not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from core.training.log_file import LogFile
from signscope import files
from signscope.records import EventKind, RunEventRecord


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order: which kind of thing was synced, and renames."""
    noted: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        noted.append(
            "sync folder" if stat.S_ISDIR(mode) else f"sync {os.fstat(descriptor).st_size} bytes"
        )
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> Path:
        noted.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    return noted


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, calls: list[str]
) -> None:
    files.write_atomically(tmp_path / "file", b"12345")
    assert calls == ["sync 5 bytes", "rename", "sync folder"]


def test_macos_empties_the_cache_of_the_drive_too(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    asked: list[int] = []
    monkeypatch.setattr(files, "_MACOS", True)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: asked.append(command))
    files.write_atomically(tmp_path / "file", b"12345")
    assert asked == [51, 51], "F_FULLFSYNC, for the file and for its folder"
    assert calls == ["rename"]


def test_a_share_without_full_sync_is_synced_as_well_as_it_can_be(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def unsupported(descriptor: int, command: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(files, "_MACOS", True)
    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    files.write_atomically(tmp_path / "file", b"12345")
    assert calls == ["sync 5 bytes", "rename", "sync folder"]


class Busy:
    """A file that somebody reads on Windows: it cannot be replaced or removed the first ``times`` times."""

    def __init__(self, times: int, really: Callable[..., object]) -> None:
        self.left = times
        self._really = really

    def __call__(self, *arguments: object, **named: object) -> object:
        if self.left:
            self.left -= 1
            raise PermissionError(errno.EACCES, "in use")
        return self._really(*arguments, **named)


def test_windows_waits_for_a_reader_before_a_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    busy = Busy(3, Path.replace)
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(files, "_RENAME_WAIT_S", 0.0)
    monkeypatch.setattr(Path, "replace", lambda source, target: busy(source, target))
    files.write_atomically(path, b"new")
    assert (path.read_bytes(), busy.left) == (b"new", 0)
    busy.left = 1000
    with pytest.raises(PermissionError):
        files.write_atomically(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_windows_waits_for_a_reader_before_a_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    busy = Busy(2, Path.unlink)
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(files, "_RENAME_WAIT_S", 0.0)
    monkeypatch.setattr(
        Path, "unlink", lambda path, missing_ok=False: busy(path, missing_ok=missing_ok)
    )
    files.remove(path)
    assert not path.exists()


def test_elsewhere_a_refused_rename_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Busy(1, Path.replace)
    monkeypatch.setattr(Path, "replace", lambda source, target: busy(source, target))
    with pytest.raises(PermissionError):
        files.write_atomically(tmp_path / "file", b"new")


def logged(path: Path) -> OSError | None:
    with LogFile(path, 1, 1.0) as log:
        log.on_event(RunEventRecord(0, EventKind.INFO, "a line", 1.0))
        return log.error


def test_the_log_is_written_at_the_end_of_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert logged(path) is None
    assert logged(path) is None
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_a_log_that_is_a_link_is_neither_followed_nor_written(tmp_path: Path) -> None:
    target = tmp_path / "somebody's file"
    target.write_text("theirs")
    path = tmp_path / "log.txt"
    path.symlink_to(target)
    error = logged(path)
    assert error is not None
    assert error.errno == errno.ELOOP
    assert target.read_text() == "theirs"
    path.unlink()
    path.symlink_to(tmp_path / "not there yet")
    assert logged(path) is not None
    assert not (tmp_path / "not there yet").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.timeout(20)
def test_a_log_that_is_a_pipe_or_a_folder_does_not_hold_up_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    os.mkfifo(path)
    assert logged(path) is not None
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # with a reader the pipe could be opened
    try:
        assert logged(path) is not None
    finally:
        os.close(reader)
    path.unlink()
    path.mkdir()
    assert logged(path) is not None
