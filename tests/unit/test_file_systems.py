"""Which file systems are another computer's; what this machine cannot mount is told in the system's own words."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from signscope import file_systems
from signscope.file_systems import network_file_system
from signscope.reader import LedgerReader
from tests.tiny_run import tiny_config, tiny_corpus, train

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw shared:2 - nfs4 server:/export/home rw,vers=4.2
31 30 8:2 / /home/me/scratch rw - xfs /dev/sdb1 rw
32 22 0:26 / /mnt/with\\040space rw - cifs //server/share rw
33 22 0:27 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
34 22 0:28 / /mnt/usb rw - fuseblk /dev/sdc1 rw
35 22 0:29 / /lustre rw - lustre 10.0.0.1@tcp:/fs rw
36 22 0:30 / /wsl rw master:1 - 9p drvfs rw
37 22 0:31 / /covered rw - nfs server:/x rw
38 37 8:3 / /covered rw - ext4 /dev/sdd1 rw
this line means nothing
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux tells")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/runs", ""),
        ("/home/me/runs", "nfs4"),
        ("/homework", ""),
        ("/home/me/scratch/runs", ""),
        ("/mnt/with space/runs", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/mnt/usb/runs", ""),
        ("/lustre/runs/one", "lustre"),
        ("/wsl/c", "9p"),
        ("/covered/runs", ""),
    ],
)
def test_shares_are_told_from_disks_on_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    monkeypatch.setattr(file_systems, "_MOUNTS", mounts)
    assert network_file_system(Path(path)) == kind


def test_what_cannot_be_found_out_counts_as_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network_file_system(tmp_path) == ""
    monkeypatch.setattr(file_systems, "_MOUNTS", tmp_path / "missing")
    assert network_file_system(tmp_path) == ""


def statfs(flags: int, kind: bytes) -> bytes:
    return bytes(64) + struct.pack("=II", flags, 0) + kind.ljust(16, b"\0") + bytes(2048)


def test_shares_are_told_from_disks_on_macos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for flags, kind, expected in (
        (0x1000, b"apfs", ""),
        (0, b"smbfs", "smbfs"),
        (0, b"nfs", "nfs"),
        (0x1000, b"macfuse", "macfuse"),
    ):
        answer = statfs(flags, kind)
        monkeypatch.setattr(file_systems, "_statfs", lambda path, answer=answer: answer)
        assert network_file_system(tmp_path) == expected


def test_shares_are_told_from_disks_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert network_file_system(tmp_path) == "", "a question that fails counts as local"
    for drive_type, expected in ((3, ""), (4, "network drive")):
        monkeypatch.setattr(file_systems, "_drive_type", lambda path, kind=drive_type: kind)
        assert network_file_system(tmp_path) == expected


def test_a_run_on_a_share_says_once_how_its_ledger_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signscope.ledger.network_file_system", lambda path: "nfs4")
    run = train(tiny_config(tiny_corpus(tmp_path)), tmp_path / "runs").run_path
    with LedgerReader(run / "ledger.sqlite") as reader:
        reader.verify()
        assert sum("network share (nfs4)" in event.text for event in reader.events()) == 1
    assert (run / "log.txt").read_text(encoding="utf-8").count("network share (nfs4)") == 1
