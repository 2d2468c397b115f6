import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.analysis.catalogue import list_runs
from signscope.errors import LedgerError, RunFolderError
from signscope.folder import (
    About,
    CorpusInfo,
    RunFolder,
    RunInfo,
    default_name,
    safe_name,
    write_atomically,
)
from signscope.ledger import Ledger, LedgerReader

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
    assert (info.device, info.state, info.best_wer) == ("cpu", "idle", None)
    assert folder.about == About("First try")
    changed = folder.update_info(best_wer=0.25)
    assert folder.read_info() == changed
    assert folder.update_about(note="good", tags=("a", "b")) == folder.read_about()
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
        (b'{"schema_version": 3, "name": "x"}', "format 3"),
        (b'{"schema_version": 2, "created": 1e300}', "created"),
        (b'{"schema_version": 2, "created": -5.0}', "created"),
        (b'{"schema_version": 2, "created": "today"}', "created"),
        (b'{"schema_version": 2, "epochs": ' + b"9" * 4000 + b"}", "epochs"),
        (b'{"schema_version": 2, "epochs": ' + b"9" * 5000 + b"}", "damaged"),
        (b'{"schema_version": 2, "epochs": true}', "epochs"),
        (b'{"schema_version": 2, "state": "dancing"}', "state"),
        (b'{"schema_version": 2, "versions": [1]}', "versions"),
        (b'{"schema_version": 2, "corpus": {"path": "a\\u0000b"}}', "path"),
        (b'{"schema_version": 2, "corpus": {"path": "a", "colour": 1}}', "colour"),
        (b'{"schema_version": 2, "corpus": 7}', "corpus"),
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
        RunInfo(best_wer=math.nan)


def about_and_state(path: Path) -> tuple[About, str]:
    folder = RunFolder.open(path)
    return folder.read_about(), folder.read_info().state


NOTES = """
import sys
from pathlib import Path
from signscope.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    folder.update_about(note=f"note {number}")
"""

STEPS = """
import sys
from pathlib import Path
from signscope.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 101):
    assert getattr(folder.read_info(), sys.argv[2]) == number - 1, f"update {number - 1} was lost"
    folder.update_info(**{sys.argv[2]: number})
"""


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_note_saved_while_a_run_concludes_never_brings_running_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", state="running")
    with started(NOTES, str(folder.path)) as writer:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        for number in range(60):
            folder.update_info(state="running", epochs=number)
            folder.update_info(state="finished")
            assert folder.read_info().state == "finished"
        assert writer.wait(60) == 0
    assert about_and_state(folder.path) == (About("run", "note 59"), "finished")


def test_no_update_is_lost_when_two_programs_change_different_fields(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    with (
        started(STEPS, str(folder.path), "epochs") as first,
        started(STEPS, str(folder.path), "batches") as second,
    ):
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert (first.wait(60), second.wait(60)) == (0, 0)
    info = folder.read_info()
    assert (info.epochs, info.batches) == (100, 100)


def test_no_update_is_lost_between_threads(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    lost: list[str] = []

    def update(name: str) -> None:
        for number in range(1, 31):
            if getattr(folder.read_info(), name) != number - 1:
                lost.append(f"{name} {number - 1}")
            RunFolder(folder.path).update_info(**{name: number})

    threads = [
        threading.Thread(target=update, args=(name,))
        for name in ("epochs", "total_epochs", "batches")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []


OLD_INFO: dict[str, object] = {
    "schema_version": 1,
    "name": "Früher",
    "state": "stopped",
    "device": "cpu",
    "corpus": {"name": "demo", "path": "/c", "fingerprint": "ab", "synthetic": True},
    "versions": {"torch": "2.9"},
    "created": 1.7e9,
    "note": "kept",
    "error": "",
    "best_wer": 0.25,
    "test_wer": None,
    "epochs": 3,
    "total_epochs": 5,
    "batches": 300,
    "duration_s": 12.5,
}


def old_run(folder: Path) -> RunFolder:
    """A run folder whose run.json is of version 1, with name and note in it."""
    folder.mkdir()
    checksum = hashlib.sha256(json.dumps(OLD_INFO, sort_keys=True).encode()).hexdigest()
    text = json.dumps({**OLD_INFO, "sha256": checksum}, indent=2, ensure_ascii=False)
    (folder / "run.json").write_text(text, encoding="utf-8")
    return RunFolder(folder)


def test_an_old_run_json_with_name_and_note_in_it_still_opens(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "old")
    assert folder.about == About("Früher", "kept")
    info = folder.info
    assert (info.state, info.best_wer, info.corpus.synthetic) == ("stopped", 0.25, True)
    folder.update_info(epochs=4)
    assert folder.about == About("Früher", "kept")
    assert folder.info.epochs == 4
    another = old_run(tmp_path / "another")
    another.update_about(note="changed")
    assert another.about == About("Früher", "changed")
    assert another.info == info


def test_a_run_that_lost_its_about_file_goes_by_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "My run: first", note="n")
    folder.about_path.unlink()
    assert folder.about == About("My run- first")


def test_odd_paths_of_corpora_are_kept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    corpus = CorpusInfo(name="c", path="/corpora/\udcff und Häkchen")
    folder.update_info(corpus=corpus)
    assert folder.info.corpus == corpus


def test_typed_text_that_no_file_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    with pytest.raises(RunFolderError, match="note"):
        folder.update_about(note="a\0b")
    with pytest.raises(RunFolderError, match="null byte"):
        RunFolder.open(tmp_path / "a\0b")
    with pytest.raises(RunFolderError, match="cannot be made"):
        RunFolder.create(tmp_path / "a\0b", "run")


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_deeply_nested_about_file_is_named(tmp_path: Path, nested: bytes) -> None:
    folder = RunFolder.create(tmp_path, "run")
    folder.about_path.write_bytes(nested)
    with pytest.raises(RunFolderError, match=r"about\.json is damaged"):
        folder.read_about()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * 2**30)  # sparse: takes no room


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("make", [make_fifo, make_device, make_huge, Path.mkdir])
@pytest.mark.parametrize("name", ["run.json", "about.json", "ledger.sqlite", ".lock.json"])
@pytest.mark.timeout(20)
def test_pipes_devices_folders_and_huge_files_neither_hang_nor_hide_other_runs(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    RunFolder.create(tmp_path, "whole")
    odd = RunFolder.create(tmp_path, "odd", state="running").path
    (odd / name).unlink(missing_ok=True)
    make(odd / name)
    found = {run.path.name: run for run in list_runs(tmp_path)}
    assert found["whole"].readable
    assert found["odd"].readable == (name != "run.json")
    if name == "run.json":
        assert "run.json" in found["odd"].problem
    if name == "about.json":
        assert "about.json" in found["odd"].problem
    if name == "ledger.sqlite":
        with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
            LedgerReader(odd / name)
        with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
            Ledger(odd / name)
    if name == ".lock.json":
        with (
            RunFolder(tmp_path / "whole").lock(),
            filelock.FileLock(odd / ".lock"),
            pytest.raises(RunFolderError, match="in use by another program"),
            RunFolder(odd).lock(),
        ):
            pass
