"""Whether a path lies on another computer.

SQLite's write-ahead log shares memory between its users through a file, which file systems over a network do
not carry (https://www.sqlite.org/wal.html): the ledger takes a rollback journal there. What cannot be found
out counts as local, as SQLite itself takes it. Any thread.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "ncpfs", "afs", "ceph", "lustre"),
    *("gpfs", "beegfs", "orangefs", "pvfs2", "panfs", "glusterfs"),
    *("9p", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "macfuse", "osxfuse", "fuse"),
}
_MNT_LOCAL = 0x1000  # of macOS' statfs
_DRIVE_REMOTE = 4  # of Windows' GetDriveType


def network_file_system(path: Path) -> str:
    """Give the kind of network file system that ``path`` lies on ("nfs4", "fuse.sshfs"); "" for a local disk."""
    platform: str = sys.platform
    try:
        real = path.resolve()
        if platform.startswith("linux"):
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
            return _if_network(_linux_kind(mounts, os.fspath(real)))
        if platform == "darwin":
            return _mac_kind(_statfs(os.fspath(real)))
        return "network drive" if _drive_type(real) == _DRIVE_REMOTE else ""
    except (OSError, RuntimeError, ValueError, AttributeError, struct.error):
        return ""


def _if_network(kind: str) -> str:
    # fuseblk is a local disk; whatever else comes through FUSE may be anywhere.
    return kind if kind in _NETWORK or kind.startswith("fuse.") else ""


def _linux_kind(mounts: str, path: str) -> str:
    """The type of the mount that ``path`` is on, from the lines of /proc/self/mountinfo (man 5 proc)."""
    found, longest = "", -1
    for line in mounts.splitlines():
        place, _, kind = line.partition(" - ")
        fields = place.split(" ")
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if (
            inside and len(point) >= longest
        ):  # of two mounts on one point the later covers the earlier
            found, longest = kind.split(" ", 1)[0], len(point)
    return found


def _statfs(path: str) -> bytes:
    """The bytes of macOS' struct statfs (sys/mount.h, with 64-bit inodes)."""
    libc = ctypes.CDLL(None, use_errno=True)
    ask = getattr(libc, "statfs$INODE64", None) or libc.statfs
    answer = ctypes.create_string_buffer(4096)
    if ask(os.fsencode(path), answer) != 0:
        raise OSError(ctypes.get_errno(), "statfs")
    return answer.raw


def _mac_kind(answer: bytes) -> str:
    (flags,) = struct.unpack_from("=I", answer, 64)
    kind = answer[72:88].split(b"\0", 1)[0].decode("ascii", "replace")
    return "" if flags & _MNT_LOCAL and not _if_network(kind) else kind


def _drive_type(path: Path) -> int:
    return int(ctypes.windll.kernel32.GetDriveTypeW(path.anchor))  # type: ignore[attr-defined, unused-ignore]
