"""Files that are whole or not there, and files that are what they claim to be.

The one place that writes under a temporary name, syncs and renames, and the one that opens a file somebody
else may have put there. Everything here raises OSError; callers say what happened to what. Any thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TextIO

_MACOS = sys.platform == "darwin"
_WINDOWS = os.name == "nt"
_F_FULLFSYNC = 51  # of macOS' fcntl.h; Python has the name there only
_RENAME_TRIES = 40
_RENAME_WAIT_S = 0.05
_PIECE = 1 << 20


def sync_file(descriptor: int) -> None:
    """Return when what was written to ``descriptor`` survives a power cut.

    macOS' fsync leaves data in the drive's cache; F_FULLFSYNC empties that too.
    """
    if _MACOS:
        import fcntl

        # A file system without it (a network share) says so; then fsync is all there is.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename or removal in ``folder`` survive a power cut, where the system has a way to ask for it."""
    if _WINDOWS:  # Windows cannot open a folder; its renames are journaled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Rename ``source`` over ``target``, waiting up to two seconds on Windows while somebody reads it.

    Windows refuses to replace a file that another program (a reader, a virus scanner) has open.
    """
    _retried(lambda: source.replace(target))


def remove(path: Path) -> None:
    """Remove ``path`` if it is there, waiting up to two seconds on Windows while somebody reads it."""
    _retried(lambda: path.unlink(missing_ok=True))


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``path`` so that a crash or a full disk leaves either the old content or the new one, synced."""
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a new file that takes the place of ``path`` when the context ends well, and is gone otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            sync_file(file.fileno())
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_regular(path: Path | str, *, follow_links: bool = True) -> BufferedReader:
    """Open ``path`` for reading if it is a regular file.

    A pipe would hang the reader for ever and a device may never end, so both are refused before a byte is read.

    Raises:
        OSError: It cannot be opened, or it is a folder, pipe, socket or device (EINVAL), or, without
            ``follow_links``, a link (ELOOP).
    """
    if "\0" in str(path):  # Python's own error for it is not an OSError
        raise OSError(errno.EINVAL, "embedded null byte", str(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with contextlib.suppress(OSError):  # fdopen closes it when it fails itself
            os.close(descriptor)
        raise


def open_to_append(path: Path) -> TextIO:
    """Open a text file (UTF-8) to write at its end, and make it where there is none.

    Raises:
        OSError: It cannot be opened, or it is a link (ELOOP), or a folder, pipe, socket or device.
    """
    if path.is_symlink():  # Windows has no O_NOFOLLOW
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "a", encoding="utf-8")


def read_regular(path: Path, *, limit: int) -> bytes:
    """Read all of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: As :func:`open_regular`; or the file is larger than ``limit`` (EFBIG), whether it said so or not.
    """
    content = bytearray()
    with open_regular(path) as file:
        told = os.fstat(file.fileno()).st_size
        # Piece by piece: memory for ``limit`` bytes would be taken for the smallest file.
        while max(told, len(content)) <= limit and (piece := file.read(_PIECE)):
            content += piece
    if max(told, len(content)) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", str(path))
    return bytes(content)


def _retried(action: Callable[[], object]) -> None:
    for left in reversed(range(_RENAME_TRIES if _WINDOWS else 1)):
        try:
            action()
        except PermissionError:
            if not left:
                raise
            time.sleep(_RENAME_WAIT_S)
        else:
            return
