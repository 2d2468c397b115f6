"""A full disk, a folder that vanishes or turns read-only, two trainers: a sentence, and never a torn file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.training.checkpoint import best_checkpoint, list_checkpoints, read_checkpoint
from core.training.session import RunResult, TrainingJob, resume_job, run_job
from signscope.errors import LedgerError, RunFolderError, SignScopeError
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.records import EventKind
from signscope.run_state import RunControl, RunEvent, RunState
from tests.e2e.steered import Steered
from tests.tiny_run import (
    BATCHES_PER_EPOCH,
    Recorder,
    ledger_losses,
    started_control,
    tiny_config,
    tiny_corpus,
    train,
    training_thread,
)

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows locks open files and has no quotas"
)
NOBODY = 65534
SETTINGS = {"every_batches": 3, "keep": 2}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder outside pytest's own, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="signscope-stress-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def corpus(place: Path) -> Path:
    return tiny_corpus(place)


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, place: Path) -> Path:
    return train(tiny_config(corpus, checkpoint=SETTINGS), place / "whole").run_path


def alerts(seen: Recorder) -> list[str]:
    return [event.text for event in seen.events if event.kind is EventKind.ALERT]


def assert_nothing_torn(run: Path) -> None:
    found = [*list_checkpoints(run / "checkpoints"), best_checkpoint(run / "checkpoints")]
    steps = [read_checkpoint(path).state.step for path in found if path.exists()]
    assert steps, "no checkpoint is left"
    RunFolder.open(run)
    with LedgerReader(run / "ledger.sqlite") as reader:
        reader.verify()
        assert broken_invariants(reader) == []
        assert reader.step_count() >= max(steps)


# ---------------------------------------------------------------- a full disk


class LimitedFiles:
    """No file may grow beyond some kilobytes: what every system without a spare disk can imitate.

    It holds for pytest's own output too where that goes to a file, so it must be lifted within the test.
    """

    says = "cannot be written|could not be written"

    def __init__(self, folder: Path) -> None:
        import resource

        self.folder = folder / "limited"
        self.folder.mkdir()
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, self._before[1]))

    def free(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def close(self) -> None:
        self.free()
        shutil.rmtree(self.folder)


class SmallDisk:
    """A disk of 3 MB in memory, where this process may mount one."""

    says = "disk is full|No space left on device"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "small-disk"
        self.folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(self.folder)]
        subprocess.run(mount, check=True, capture_output=True)

    def fill(self) -> None:
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=True)
        self.folder.rmdir()


def disks() -> list[type[LimitedFiles] | type[SmallDisk]]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            SmallDisk(Path(folder)).close()
    except (OSError, subprocess.CalledProcessError):
        return [LimitedFiles]
    return [LimitedFiles, SmallDisk]


@pytest.fixture(params=disks())
def disk(request: pytest.FixtureRequest, place: Path) -> Iterator[LimitedFiles | SmallDisk]:
    made = request.param(place)
    yield made
    made.close()


def test_a_full_disk_pauses_the_run_and_nothing_is_lost_once_there_is_room(
    disk: LimitedFiles | SmallDisk, corpus: Path, uninterrupted: Path
) -> None:
    with training_until_full(disk, corpus) as (control, seen, result):
        (run,) = (path for path in disk.folder.iterdir() if path.is_dir())
        assert_nothing_torn(run)
        disk.free()
        control.apply(RunEvent.RESUME)
        assert result().steps == 2 * BATCHES_PER_EPOCH
    assert len(alerts(seen)) == 1
    assert_nothing_torn(run)
    assert ledger_losses(run) == ledger_losses(uninterrupted)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == [
        path.name for path in list_checkpoints(uninterrupted / "checkpoints")
    ]


def test_a_run_stopped_on_a_full_disk_ends_with_a_sentence_and_can_be_resumed(
    disk: LimitedFiles | SmallDisk, corpus: Path, uninterrupted: Path
) -> None:
    with training_until_full(disk, corpus) as (control, _seen, result):
        control.apply(RunEvent.STOP)
        with pytest.raises(SignScopeError, match=disk.says) as caught:
            result()
        assert caught.value.hint
    (run,) = (path for path in disk.folder.iterdir() if path.is_dir())
    assert_nothing_torn(run)
    assert run_job(resume_job(run), started_control()).state == "finished"
    assert_nothing_torn(run)
    assert ledger_losses(run) == ledger_losses(uninterrupted)


@contextlib.contextmanager
def training_until_full(
    disk: LimitedFiles | SmallDisk, corpus: Path
) -> Iterator[tuple[RunControl, Recorder, Callable[[], RunResult]]]:
    """Train on a disk that is full from batch 4 on, until the run has paused itself and said why."""
    control = started_control()
    seen = Recorder(lambda record: disk.fill() if record.step == 4 else None)
    job = TrainingJob(tiny_config(corpus, checkpoint=SETTINGS), disk.folder)
    with training_thread(job, control, [seen]) as result, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(disk.free)
        assert control.wait_for(RunState.PAUSED, timeout_s=60)
        (told,) = alerts(seen)
        assert re.search(disk.says, told), told
        yield control, seen, result


def test_a_disk_full_from_the_start_leaves_no_run_behind_that_looks_whole(
    disk: LimitedFiles | SmallDisk, corpus: Path
) -> None:
    disk.fill()
    try:
        with pytest.raises(SignScopeError, match=r"cannot be|could not be|disk is full"):
            train(tiny_config(corpus, checkpoint=SETTINGS), disk.folder)
    finally:
        disk.free()
    for run in (path for path in disk.folder.iterdir() if path.is_dir()):
        with contextlib.suppress(RunFolderError):
            assert RunFolder.open(run).shown_state() in ("failed", "interrupted", "idle")


# ---------------------------------------------------------------- a folder that changes


def test_a_deleted_run_folder_is_said_and_not_made_again(corpus: Path, tmp_path: Path) -> None:
    control = started_control()

    def delete(step: int) -> None:
        if step == 4:
            (run,) = tmp_path.glob("tiny")
            shutil.rmtree(run)

    seen = Recorder(lambda record: delete(record.step))
    job = TrainingJob(tiny_config(corpus, checkpoint=SETTINGS), tmp_path)
    with training_thread(job, control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=60)
        assert "run folder is gone" in alerts(seen)[0]
        control.apply(RunEvent.RESUME)  # nothing has changed: it says so again
        assert control.wait_for(RunState.PAUSED, timeout_s=60)
        assert len(alerts(seen)) == 2
        control.apply(RunEvent.STOP)
        with pytest.raises(SignScopeError, match="gone"):
            result()
    assert list(tmp_path.glob("tiny")) == []


@contextlib.contextmanager
def nobody_in_particular() -> Iterator[None]:
    """Be somebody to whom permissions apply, even where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def own_place(place: Path, uninterrupted: Path) -> Iterator[Path]:
    """A folder of nobody in particular. ``uninterrupted`` has imported all that a run imports."""
    folder = Path(tempfile.mkdtemp(dir=place))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def test_a_folder_that_turns_read_only_pauses_the_run(
    corpus: Path, uninterrupted: Path, own_place: Path
) -> None:
    control = started_control()

    def forbid(step: int) -> None:
        if step == 4:
            (run,) = own_place.iterdir()
            (run / "checkpoints").chmod(0o555)
            run.chmod(0o555)

    seen = Recorder(lambda record: forbid(record.step))
    job = TrainingJob(tiny_config(corpus, checkpoint=SETTINGS), own_place)
    with nobody_in_particular(), training_thread(job, control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=60)
        assert "could not be written (Permission denied)" in alerts(seen)[0]
        (run,) = own_place.iterdir()
        run.chmod(0o755)
        (run / "checkpoints").chmod(0o755)
        assert_nothing_torn(run)
        control.apply(RunEvent.RESUME)
        assert result().state == "finished"
    assert len(alerts(seen)) == 1
    assert ledger_losses(run) == ledger_losses(uninterrupted)


def test_a_read_only_run_can_be_looked_at_but_not_trained(
    corpus: Path, uninterrupted: Path, own_place: Path
) -> None:
    run = own_place / "run"
    shutil.copytree(uninterrupted, run)
    if os.geteuid() == 0:
        for path in [run, *run.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    for path in [*run.rglob("*"), run]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with nobody_in_particular():
        with LedgerReader(run / "ledger.sqlite") as reader:
            assert len(reader.steps()) == 2 * BATCHES_PER_EPOCH
        assert RunFolder.open(run).shown_state() == "finished"
        with pytest.raises(RunFolderError, match=r"cannot be locked|cannot be written") as caught:
            run_job(resume_job(run), started_control())
        assert "read-only" in caught.value.hint
    assert_nothing_torn(run)


def test_a_second_trainer_is_refused_with_the_reason_and_may_read(
    corpus: Path, tmp_path: Path
) -> None:
    with Steered(corpus, tmp_path) as first:
        first.wait_for_steps(3)
        first.send(RunEvent.PAUSE)
        first.wait_for("paused")
        (run,) = tmp_path.glob("tiny")
        files = [run / "run.json", run / "config.toml", *list_checkpoints(run / "checkpoints")]
        before = [path.read_bytes() for path in files]
        with pytest.raises(RunFolderError, match=f"in use by process {first.pid} on ") as caught:
            run_job(resume_job(run), started_control())
        assert "looked at" in caught.value.hint
        with LedgerReader(run / "ledger.sqlite") as reader:
            assert len(reader.steps()) >= 3
        assert RunFolder.open(run).shown_state() == "running"
        assert [path.read_bytes() for path in files] == before
        first.send(RunEvent.STOP)
        first.wait_for()
        assert first.last == ("done", "stopped")
    assert_nothing_torn(run)


def test_a_ledger_that_is_not_one_is_refused_before_anything_changes(
    corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(LedgerError, match="not a ledger"):
        run_job(resume_job(run), started_control())
    assert (run / "ledger.sqlite").read_bytes() == b""
    assert RunFolder.open(run).info.state == "finished"
