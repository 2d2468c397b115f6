import errno
import os
from pathlib import Path
from typing import Any

import pytest

from core.analysis.catalogue import list_runs, rename_run, set_note
from signscope.errors import RunFolderError
from signscope.folder import CorpusInfo, RunFolder
from signscope.ledger import Ledger
from tests.unit.made_records import make_step


def test_runs_are_listed_newest_first_with_what_they_say(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "old", created=1.0, state="finished", best_wer=0.5, batches=7)
    RunFolder.create(
        tmp_path,
        "new",
        created=2.0,
        state="stopped",
        corpus=CorpusInfo(name="demo", synthetic=True),
        device="cpu",
        note="try",
        duration_s=3.5,
    )
    new, old = list_runs(tmp_path)
    assert (new.name, new.state, new.corpus, new.synthetic) == ("new", "stopped", "demo", True)
    assert (new.device, new.note, new.duration_s, new.best_wer) == ("cpu", "try", 3.5, None)
    assert (old.name, old.best_wer, old.batches) == ("old", 0.5, 7)
    assert new.readable


def test_an_interrupted_run_counts_the_batches_of_its_ledger(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", state="running", batches=3)
    with Ledger(folder.ledger_path) as ledger:
        for step in range(11):
            ledger.append(make_step(step))
        ledger.flush()
        with folder.lock():
            assert [(run.state, run.batches) for run in list_runs(tmp_path)] == [("running", 11)]
    assert [(run.state, run.batches) for run in list_runs(tmp_path)] == [("interrupted", 11)]


def test_broken_folders_are_listed_with_their_reason_and_others_passed_over(
    tmp_path: Path,
) -> None:
    RunFolder.create(tmp_path, "whole")
    RunFolder.create(tmp_path, "broken").info_path.write_text("{")
    RunFolder.create(tmp_path, "without").info_path.unlink()
    (tmp_path / "without" / "config.toml").touch()
    unknown = RunFolder.create(tmp_path, "unknown")
    unknown.info_path.write_text('{"schema_version": 99}')
    RunFolder.create(tmp_path, "interrupted", state="running").ledger_path.write_bytes(b"x" * 5000)
    (tmp_path / "no run").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").touch()
    runs = {run.name: run for run in list_runs(tmp_path)}
    assert set(runs) == {"whole", "broken", "without", "unknown", "interrupted"}
    assert "damaged" in runs["broken"].problem
    assert "no run.json" in runs["without"].problem
    assert "format 99" in runs["unknown"].problem
    assert [name for name, run in runs.items() if run.readable] == ["whole", "interrupted"] or {
        name for name, run in runs.items() if run.readable
    } == {"whole", "interrupted"}
    assert runs["interrupted"].batches == 0


def test_a_missing_folder_has_no_runs_and_a_file_is_named(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "missing") == []
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be read"):
        list_runs(tmp_path / "file")


def test_names_and_notes_change_but_folders_stay(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    rename_run(folder.path, "  A better name ")
    set_note(folder.path, "with mirrors")
    (run,) = list_runs(tmp_path)
    assert (run.path, run.name, run.note) == (folder.path, "A better name", "with mirrors")
    with pytest.raises(RunFolderError, match="needs a name"):
        rename_run(folder.path, "  ")


def test_a_folder_that_may_not_be_entered_hides_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(tmp_path, "whole")
    locked = RunFolder.create(tmp_path, "locked").path
    stat = os.stat  # whoever may do everything, as in a container, cannot be shut out for real

    def refusing(path: Any, **named: Any) -> os.stat_result:
        if locked in Path(os.fspath(path)).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **named)

    def refusing_open(path: Any, *arguments: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refusing)
    real_open = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, *rest: (refusing_open if locked in Path(path).parents else real_open)(
            path, *rest
        ),
    )
    found = {run.path.name: run for run in list_runs(tmp_path)}
    assert found["whole"].readable
    assert "Permission denied" in found["locked"].problem
