import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signscope.errors import RunFolderError
from signscope.folder import RunFolder, RunInfo, default_name, safe_name, write_atomically

HOLD = """
import sys
from pathlib import Path
from signscope.folder import RunFolder
folder = RunFolder.open(Path(sys.argv[1]))
with folder.lock():
    folder.update_info(state="running")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_folder_has_its_places(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "deep" / "runs", "First try", device="cpu")
    assert folder.path == tmp_path / "deep" / "runs" / "First try"
    assert folder.checkpoints_dir.is_dir()
    info = RunFolder.open(folder.path).info
    assert (info.name, info.device, info.state, info.best_wer) == ("First try", "cpu", "idle", None)
    changed = folder.update_info(best_wer=0.25, note="good")
    assert folder.read_info() == changed
    assert changed.best_wer == 0.25


def test_names_are_unique(tmp_path: Path) -> None:
    paths = [RunFolder.create(tmp_path, "same").path.name for _ in range(3)]
    assert paths == ["same", "same-2", "same-3"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2026-03-01 14.05 demo", "2026-03-01 14.05 demo"),
        ("a: b/c\\d?*", "a- b-c-d"),
        ("../../etc/passwd", "etc-passwd"),
        ("con", "run-con"),
        ("LPT1.txt", "run-LPT1.txt"),
        ("", "run"),
        (" .. ", "run"),
        ("Lauf für Ümit", "Lauf für Ümit"),
        ("x" * 300, "x" * 80),
    ],
)
def test_names_are_safe_everywhere(name: str, expected: str) -> None:
    assert safe_name(name) == expected


@given(st.text(max_size=120))
def test_any_name_is_made_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe) <= 84
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe == safe.strip(" .")
    assert safe_name(safe) == safe


def test_default_names_begin_with_the_date() -> None:
    assert default_name("demo", 1.7e9).startswith("2023-11-1")
    assert default_name("demo", 1.7e9).endswith(" demo")


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.open(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[1, 2]", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"schema_version": 1}', "name"),
        (b'{"schema_version": 1, "name": "x", "epochs": -1}', "epochs"),
        (b'{"schema_version": 1, "name": "x", "colour": 1}', "colour"),
        (b'{"schema_version": 1, "name": "x", "best_wer": NaN}', "best_wer"),
        (b'{"schema_version": 2, "name": "x"}', "format 2"),
    ],
)
def test_a_damaged_or_unknown_run_json_is_named(tmp_path: Path, content: bytes, error: str) -> None:
    folder = RunFolder.create(tmp_path, "run")
    folder.info_path.write_bytes(content)
    with pytest.raises(RunFolderError, match=error) as caught:
        folder.read_info()
    assert caught.value.subject
    assert caught.value.hint


def test_a_truncated_run_json_is_always_noticed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    content = folder.info_path.read_bytes().rstrip()
    for length in range(len(content)):
        folder.info_path.write_bytes(content[:length])
        with pytest.raises(RunFolderError):
            folder.read_info()


def test_two_holders_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    assert not folder.in_use()
    with folder.lock():
        assert folder.in_use()
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), folder.lock():
            pass
        assert folder.in_use()
    assert not folder.in_use()
    with folder.lock():
        assert folder.in_use()


def test_a_killed_holder_leaves_an_interrupted_run_that_can_be_held(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert folder.shown_state() == "running"
        with pytest.raises(RunFolderError, match=f"process {process.pid} on"), folder.lock():
            pass
        process.kill()
        process.wait()
    assert folder.shown_state() == "interrupted"
    with folder.lock():
        assert json.loads((folder.path / ".lock.json").read_text())["pid"] == os.getpid()
    assert not (folder.path / ".lock.json").exists()


def test_a_missing_folder_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="gone"), RunFolder(tmp_path / "x").lock():
        pass


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(RunFolderError, match="cannot be written") as caught:
        write_atomically(tmp_path / "missing" / "file", b"new")
    assert "missing" in caught.value.subject
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the resource limits of Unix")
def test_a_disk_without_room_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import resource, sys; from pathlib import Path;"
        "from core.errors import RunFolderError; from signscope.folder import write_atomically;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomically(Path(sys.argv[1]), bytes(5000))\n"
        "except RunFolderError as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in told.stdout
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="best_wer"):
        RunInfo(name="x", best_wer=math.nan)
