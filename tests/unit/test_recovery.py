"""What a run does when its files cannot be written or it is resumed: nothing mixed, nothing lost in silence."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from core.errors import CheckpointError, DeviceError
from core.training import checkpoint as checkpoints
from core.training import evaluation
from core.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    best_checkpoint,
    best_epoch,
    go_back,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from core.training.session import (
    ChangedSinceCheckpointError,
    TrainingJob,
    resume_job,
    run_job,
)
from signscope.folder import RunFolder
from signscope.ledger import Ledger, LedgerReader
from signscope.records import EventKind
from signscope.run_state import RunEvent, RunState
from tests.tiny_run import (
    BATCHES_PER_EPOCH,
    Recorder,
    ledger_losses,
    started_control,
    stop_after,
    tiny_config,
    train,
    training_thread,
)
from tests.unit.made_records import make_step
from tests.unit.test_checkpoint import make_checkpoint


def steps_of(run: Path) -> list[int]:
    return [int(path.stem[5:]) for path in list_checkpoints(run / "checkpoints")]


def alerts(seen: Recorder) -> list[str]:
    return [event.text for event in seen.events if event.kind is EventKind.ALERT]


def stopped_run(corpus: Path, runs_dir: Path, step: int, **sections: object) -> Path:
    control = started_control()
    config = tiny_config(corpus, **sections)
    return train(config, runs_dir, stop_after(control, step), control=control).run_path


# ---------------------------------------------------------------- what cannot be written


def test_a_checkpoint_that_cannot_be_written_pauses_and_one_resume_makes_it_good(
    corpus: Path, tmp_path: Path
) -> None:
    control = started_control()
    moved = tmp_path / "moved"

    def take_folder_away(step: int) -> None:
        if step == 1:
            (run,) = (tmp_path / "runs").iterdir()
            (run / "checkpoints").rename(moved)
            (run / "checkpoints").write_text("in the way")

    seen = Recorder(lambda record: take_folder_away(record.step))
    config = tiny_config(corpus, checkpoint={"every_batches": 3})
    with training_thread(TrainingJob(config, tmp_path / "runs"), control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        control.apply(RunEvent.RESUME)  # nothing was mended: it has to pause again, and say why
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        told = alerts(seen)
        assert all("could not be written (Not a directory)" in text for text in told)
        assert len(told) == 2
        (run,) = (tmp_path / "runs").iterdir()
        (run / "checkpoints").unlink()
        moved.rename(run / "checkpoints")
        control.apply(RunEvent.RESUME)
        assert result().steps == 2 * BATCHES_PER_EPOCH
    assert len(alerts(seen)) == 2
    assert steps_of(run)[0] == 2 * BATCHES_PER_EPOCH
    whole = train(config, tmp_path / "whole").run_path
    assert ledger_losses(run) == ledger_losses(whole)


def test_an_unexpected_error_does_not_kill_the_writing_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(checkpoint: Checkpoint, path: Path) -> None:
        raise RuntimeError("out of something")

    store = CheckpointStore(tmp_path, 9)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_checkpoint", fail)
        store.save(make_checkpoint(1), best=True)
        with pytest.raises(CheckpointError, match="RuntimeError: out of something"):
            store.wait()
    store.save(make_checkpoint(2))
    store.wait()
    store.close()
    assert newest_checkpoint(tmp_path).state.step == 2
    # The best of that epoch was not to be lost with the failure.
    assert read_checkpoint(best_checkpoint(tmp_path)).state.step == 1


def test_the_best_is_written_before_the_last_of_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, the run must resume before the end of the epoch, not after it."""
    original = checkpoints.write_checkpoint

    def die_after_one(checkpoint: Checkpoint, path: Path) -> None:
        if list(tmp_path.iterdir()):
            raise RuntimeError("killed here")
        original(checkpoint, path)

    monkeypatch.setattr(checkpoints, "write_checkpoint", die_after_one)
    store = CheckpointStore(tmp_path, 2)
    store.save(make_checkpoint(7), best=True)
    store.close()
    assert store.take_error() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_evaluation_does_not_write_the_same_checkpoint_for_each_of_its_batches(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = checkpoints.write_checkpoint

    def counting(checkpoint: Checkpoint, path: Path) -> None:
        written.append(path.name)
        original(checkpoint, path)

    monkeypatch.setattr(checkpoints, "write_checkpoint", counting)
    config = tiny_config(
        corpus,
        data={"batch_size": 1, "dev_share": 0.4},
        optim={"epochs": 1},
        checkpoint={"every_batches": 1},
    )
    result = train(config, tmp_path)
    last = f"step-{result.steps:010d}.safetensors"
    assert written.count(last) == 2  # after the last batch, and after the epoch


def test_an_evaluation_without_memory_ends_with_a_sentence_and_all_the_work_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **named: object) -> torch.Tensor:
        return torch.empty(2**60)  # the allocator's own error, not an imitation of it

    config = tiny_config(corpus, checkpoint={"every_batches": 0})
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "ctc_losses", full)
        with pytest.raises(DeviceError, match="dev split ran out of memory"):
            train(config, tmp_path / "killed")
    (run,) = (tmp_path / "killed").iterdir()
    assert RunFolder.open(run).info.state == "failed"
    assert steps_of(run) == [BATCHES_PER_EPOCH, 0]
    assert run_job(resume_job(run), started_control()).state == "finished"
    assert ledger_losses(run) == ledger_losses(train(config, tmp_path / "whole").run_path)


# ---------------------------------------------------------------- resuming


def test_a_refused_resume_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    run = stopped_run(corpus, tmp_path, 2)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    job = resume_job(run)
    changed = job.config.model_copy(update={"seed": 9})
    with pytest.raises(ChangedSinceCheckpointError, match="seed"):
        run_job(TrainingJob(changed, run.parent, run), started_control())
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1])
        before.pop(path)
    with pytest.raises(CheckpointError, match="damaged"):
        run_job(job, started_control())
    assert RunFolder.open(run).info.state == "stopped"
    assert {path: path.read_bytes() for path in before} == before


def test_another_thread_count_is_said(corpus: Path, tmp_path: Path) -> None:
    run = stopped_run(corpus, tmp_path, 2)
    other = resume_job(run).config.model_copy(update={"threads": 2})
    with pytest.raises(ChangedSinceCheckpointError, match="1 compute threads were used and 2"):
        run_job(TrainingJob(other, run.parent, run), started_control())


def test_resuming_from_an_older_checkpoint_leaves_none_of_the_course_given_up(
    corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(corpus, checkpoint={"every_batches": 2, "keep": 99})
    run = train(config, tmp_path).run_path
    assert steps_of(run) == [14, 12, 10, 8, 7, 6, 4, 2, 0]
    control = started_control()
    older = resume_job(run, checkpoint="step-0000000004.safetensors")
    run_job(older, control, [stop_after(control, 4)])
    assert steps_of(run) == [5, 4, 2, 0]
    assert not best_checkpoint(run / "checkpoints").exists()  # it was of epoch 1 or 2
    assert len(ledger_losses(run)) == 5


def test_half_written_files_are_swept_up_and_other_files_left(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(make_checkpoint(step), tmp_path / f"step-{step:010d}.safetensors")
    write_checkpoint(make_checkpoint(1), best_checkpoint(tmp_path))
    for left in (".step-0000000003.safetensors.part", ".step-0000000003.safetensors.1-2.tmp"):
        (tmp_path / left).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    go_back(tmp_path, 2, best_epoch(tmp_path, 2, {}), keep=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors",
        "notes.txt",
        "step-0000000001.safetensors",
        "step-0000000002.safetensors",
    ]


def test_a_run_stopped_at_once_can_be_resumed(corpus: Path, tmp_path: Path) -> None:
    whole = train(tiny_config(corpus), tmp_path / "whole").run_path
    run = train(tiny_config(corpus), tmp_path / "killed").run_path
    for path in list_checkpoints(run / "checkpoints"):
        path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run_job(resume_job(run), started_control())
    shutil.rmtree(run)
    run = stopped_run(corpus, tmp_path / "again", 0)
    for path in list_checkpoints(run / "checkpoints")[:-1]:
        path.unlink()
    assert steps_of(run) == [0]  # the one made before the first batch
    run_job(resume_job(run), started_control())
    assert ledger_losses(run) == ledger_losses(whole)
    left, right = (newest_checkpoint(path / "checkpoints") for path in (run, whole))
    assert all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)


def test_the_held_out_evaluation_is_not_counted_twice(corpus: Path, tmp_path: Path) -> None:
    with_test = {"test_signers": [sorted_signers(corpus)[0]]}
    run = train(tiny_config(corpus, data=with_test, optim={"epochs": 1}), tmp_path).run_path
    before = evaluations(run)
    assert [split for split, _loss in before] == ["dev", "test"]
    run_job(resume_job(run), started_control())
    assert evaluations(run) == before


def sorted_signers(corpus: Path) -> list[str]:
    from core.corpus.reader import Corpus

    with Corpus.open(corpus) as opened:
        return sorted(opened.signers)


def evaluations(run: Path) -> list[tuple[str, float]]:
    with LedgerReader(run / "ledger.sqlite") as reader:
        return [(found.split, found.loss) for _epoch, found in reader.evaluations()]


def test_what_a_killed_process_left_beside_run_json_goes_in_time(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    old, new = (folder.path / f".run.json.{number}.tmp" for number in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1.0, 1.0))
    with folder.lock():
        assert not old.exists()
        assert new.exists()  # maybe of a program that is renaming the run just now


def test_a_ledger_killed_while_it_became_a_plain_file_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, {"policy": "clip", "max_norm": 1.0}) as ledger:
        for step in range(2000):
            ledger.append(make_step(step))
    with LedgerReader(path) as reader:
        whole = reader.steps()
    killed = tmp_path / "killed"
    killed.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 10")  # so that changed pages reach the file early
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE steps SET loss = loss + 1")
    for file in tmp_path.glob("ledger.sqlite*"):
        shutil.copy(file, killed)
    connection.execute("ROLLBACK")
    connection.close()
    assert (killed / "ledger.sqlite-journal").stat().st_size > 0
    with LedgerReader(killed / "ledger.sqlite") as reader:
        reader.verify()
        assert reader.steps() == whole
