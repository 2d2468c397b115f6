"""Whole small runs: every batch accounted for, bad values kept out, exact pause, stop and resume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import config_to_toml, load_config
from core.corpus.batching import Batch, TrainingData
from core.errors import CheckpointError, CorpusError, DeviceError
from core.model.decoding import greedy_decode
from core.model.losses import ctc_losses
from core.training import evaluation
from core.training import trainer as trainer_module
from core.training.checkpoint import (
    Checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
)
from core.training.session import (
    ChangedSinceCheckpointError,
    TrainingJob,
    resume_job,
    run_job,
)
from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.invariants import broken_invariants
from signscope.ledger import LedgerReader
from signscope.records import EventKind, Outcome, StepRecord
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


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_config(corpus), tmp_path_factory.mktemp("runs")).run_path


def final_tensors(run: Path) -> Checkpoint:
    return newest_checkpoint(run / "checkpoints")


def assert_same_run(left: Path, right: Path) -> None:
    assert ledger_losses(left) == ledger_losses(right)
    a, b = final_tensors(left), final_tensors(right)
    assert a.tensors.keys() == b.tensors.keys()
    different = [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])]
    assert different == []
    assert a.state == b.state


def test_one_row_a_batch_and_the_norms_are_clipped(corpus: Path, tmp_path: Path) -> None:
    seen = Recorder()
    result = train(tiny_config(corpus), tmp_path, seen)
    assert (result.state, result.steps, result.epochs) == ("finished", 2 * BATCHES_PER_EPOCH, 2)
    assert seen.plan == (2, BATCHES_PER_EPOCH)
    with LedgerReader(result.run_path / "ledger.sqlite") as reader:
        assert reader.steps() == seen.steps
        assert reader.epochs() == seen.epochs
        assert broken_invariants(reader) == []
    assert [step.step for step in seen.steps] == list(range(result.steps))
    for step in seen.steps:
        assert step.outcome is Outcome.APPLIED
        assert step.grad_norm_post == pytest.approx(min(step.grad_norm_pre, 1.0), rel=1e-4)
    assert seen.epochs[0].avg_loss == pytest.approx(
        sum(step.loss for step in seen.steps[:BATCHES_PER_EPOCH]) / BATCHES_PER_EPOCH
    )
    assert all(epoch.dev is not None for epoch in seen.epochs)
    folder = RunFolder.open(result.run_path)
    assert folder.info.state == "finished"
    assert "Epoch 1/2:\n  Batch 0: loss=" in folder.log_path.read_text()


def test_a_seeded_run_repeats_bit_for_bit(
    corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    assert_same_run(train(tiny_config(corpus), tmp_path).run_path, uninterrupted)


def test_the_loss_falls(corpus: Path, tmp_path: Path) -> None:
    seen = Recorder()
    config = tiny_config(corpus, optim={"epochs": 8, "lr": 1e-2}, model={"width": 32})
    train(config, tmp_path, seen)
    assert seen.epochs[-1].avg_loss < 0.5 * seen.steps[0].loss


@pytest.mark.parametrize("step", [0, 3, BATCHES_PER_EPOCH - 1, BATCHES_PER_EPOCH, 10])
def test_stop_and_resume_is_as_if_never_stopped(
    step: int, corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    control = started_control()
    stopped = train(tiny_config(corpus), tmp_path, stop_after(control, step), control=control)
    assert (stopped.state, stopped.steps) == ("stopped", step + 1)
    assert RunFolder.open(stopped.run_path).info.state == "stopped"
    resumed = run_job(resume_job(stopped.run_path), started_control())
    assert resumed.state == "finished"
    assert_same_run(stopped.run_path, uninterrupted)


def test_pause_and_resume_is_as_if_never_paused(
    corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    control = started_control()
    seen = Recorder(lambda record: control.apply(RunEvent.PAUSE) if record.step in (2, 7) else None)
    with training_thread(TrainingJob(tiny_config(corpus), tmp_path), control, [seen]) as result:
        for steps in (3, 8):
            assert control.wait_for(RunState.PAUSED, timeout_s=30)
            assert len(seen.steps) == steps  # it rests within one batch
            control.apply(RunEvent.RESUME)
        assert_same_run(result().run_path, uninterrupted)
    kinds = [event.kind for event in seen.events]
    assert kinds.count(EventKind.PAUSED) == kinds.count(EventKind.RESUMED) == 2


def test_the_time_of_an_evaluation_is_without_its_pauses(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of its own: it moves by 1000 s for each pause, and by nothing else."""
    now = [0.0]

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    monkeypatch.setattr(evaluation, "time", Clock)
    control = started_control()
    original = greedy_decode

    def decode_and_pause(*arguments: torch.Tensor) -> list[tuple[int, ...]]:
        control.apply_if_allowed(RunEvent.PAUSE)
        now[0] += 1.0
        return original(*arguments)

    monkeypatch.setattr(evaluation, "greedy_decode", decode_and_pause)
    seen = Recorder()
    config = tiny_config(corpus, optim={"epochs": 1})
    with training_thread(TrainingJob(config, tmp_path), control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        now[0] += 1000.0
        control.apply(RunEvent.RESUME)
        result()
    (epoch,) = seen.epochs
    assert epoch.dev is not None
    assert epoch.dev.duration_s == 1.0


def test_rows_after_the_checkpoint_are_made_again(
    corpus: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    finished = train(tiny_config(corpus), tmp_path).run_path
    for path in list_checkpoints(finished / "checkpoints")[:-1]:
        path.unlink()  # as after a kill: the ledger is ahead of the checkpoint
    run_job(resume_job(finished), started_control())
    assert_same_run(finished, uninterrupted)


# ---------------------------------------------------------------- bad values


def spoil(monkeypatch: pytest.MonkeyPatch, bad_steps: set[int], value: float) -> None:
    """Put ``value`` into the loss of chosen batches, in whatever order they come."""
    original = ctc_losses
    calls = iter(range(10**6))

    def spoiled(*arguments: torch.Tensor, **named: object) -> torch.Tensor:
        losses = original(*arguments, **named)  # type: ignore[arg-type]
        return losses * value if next(calls) in bad_steps else losses

    monkeypatch.setattr(trainer_module, "ctc_losses", spoiled)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_batches_are_recorded_and_leave_everything_untouched(
    value: float, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        corpus, optim={"ema_decay": 0.9}, checkpoint={"every_batches": 1, "keep": 99}
    )
    bad = {2, 3, 7}
    spoil(monkeypatch, bad, value)
    seen = Recorder()
    result = train(config, tmp_path, seen)
    assert {s.step for s in seen.steps if not s.outcome.applied} == bad
    for record in (seen.steps[i] for i in bad):
        assert record.outcome is Outcome.SKIPPED_NON_FINITE_LOSS
        assert "non-finite" in record.detail
        assert "pose.project.weight" in record.detail
        assert record.detail.endswith(" more")  # of the tensors, only some are named
        assert record.sample_ids
    assert [epoch.non_finite for epoch in seen.epochs] == [2, 1]
    assert all(math.isfinite(epoch.avg_loss) for epoch in seen.epochs)
    by_step = {
        int(path.stem[5:]): path for path in list_checkpoints(result.run_path / "checkpoints")
    }
    for step in range(1, 12):
        before, after = (read_checkpoint(by_step[i]).tensors for i in (step, step + 1))
        same = all(torch.equal(before[n], after[n]) for n in before if not n.startswith("rng"))
        assert same is (step in bad), f"weights changed wrongly in batch {step}"
    # The schedule advances with applied updates only.
    rates = [record.lr for record in seen.steps]
    assert rates[2] == rates[3] == rates[4]


def test_huge_but_finite_gradients_are_applied(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = {1, 4}
    spoil(monkeypatch, huge, 1e25)
    seen = Recorder()
    train(tiny_config(corpus), tmp_path, seen)
    assert all(step.outcome is Outcome.APPLIED for step in seen.steps)
    for step in (seen.steps[i] for i in huge):
        assert step.grad_norm_pre > 1e20
        assert step.grad_norm_post == pytest.approx(1.0, rel=1e-3)


def test_many_non_finite_batches_in_a_row_pause_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {3, 4, 5}, math.nan)
    control = started_control()
    seen = Recorder()
    config = tiny_config(corpus, optim={"non_finite_pause": 3})
    with training_thread(TrainingJob(config, tmp_path), control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        (alert,) = [event for event in seen.events if event.kind is EventKind.ALERT]
        assert "3 batches in a row were not finite" in alert.text
        assert seen.steps[-1].sample_ids[0] in alert.text
        assert len(seen.steps) == 6
        control.apply(RunEvent.RESUME)
        assert result().steps == 2 * BATCHES_PER_EPOCH


def test_running_out_of_memory_pauses_with_a_sentence_and_a_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ctc_losses
    calls = iter(range(10**6))

    def full(*arguments: torch.Tensor, **named: object) -> torch.Tensor:
        if next(calls) == 4:
            torch.empty(2**60)  # the allocator's own error, not an imitation of it
        return original(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_module, "ctc_losses", full)
    control = started_control()
    seen = Recorder()
    with training_thread(TrainingJob(tiny_config(corpus), tmp_path), control, [seen]) as result:
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        assert seen.steps[-1].outcome is Outcome.FAILED_OUT_OF_MEMORY
        assert any("did not fit in memory" in event.text for event in seen.events)
        control.apply(RunEvent.STOP)
        run = result().run_path
    assert final_tensors(run).state.step == 5
    with LedgerReader(run / "ledger.sqlite") as reader:
        assert reader.counts().batches == 5
        assert broken_invariants(reader) == []


# ---------------------------------------------------------------- what is refused


def test_asking_for_cuda_where_there_is_none_is_a_clear_error(corpus: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        assert train(tiny_config(corpus, device="cuda"), tmp_path).state == "finished"
        return
    with pytest.raises(DeviceError, match="cuda"):
        train(tiny_config(corpus, device="cuda"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_corpus_leaves_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(CorpusError):
        train(tiny_config(tmp_path / "nowhere"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "broken", ["core.training.session.Ledger", "core.training.session.Trainer"]
)
def test_a_start_that_fails_leaves_no_run_folder(
    broken: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ImportError("cannot import name 'IndentedBuffer' from a half-imported module")

    with monkeypatch.context() as patch, pytest.raises(ImportError):
        patch.setattr(broken, fail)
        train(tiny_config(corpus), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert train(tiny_config(corpus), tmp_path).run_path.name == "tiny"


def test_a_failed_start_of_a_resumed_run_leaves_it_as_it_was(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = started_control()
    run = train(tiny_config(corpus), tmp_path, stop_after(control, 2), control=control).run_path
    before = RunFolder.open(run).info
    with monkeypatch.context() as patch, pytest.raises(ImportError):
        patch.setattr("core.training.session.Trainer", lambda *_, **__: __import__("nowhere"))
        run_job(resume_job(run), started_control())
    assert RunFolder.open(run).info == before
    assert run_job(resume_job(run), started_control()).state == "finished"


def test_changes_are_said_before_resuming(corpus: Path, tmp_path: Path) -> None:
    control = started_control()
    run = train(tiny_config(corpus), tmp_path, stop_after(control, 2), control=control).run_path
    folder = RunFolder.open(run)
    config = load_config(folder.config_path)
    changed = config.model_copy(update={"optim": config.optim.model_copy(update={"lr": 0.5})})
    folder.config_path.write_text(config_to_toml(changed))
    with pytest.raises(ChangedSinceCheckpointError, match="lr"):
        run_job(resume_job(run), started_control())
    before = ledger_losses(run)
    seen = Recorder()
    run_job(resume_job(run, accept_changes=True), started_control(), [seen])
    assert ledger_losses(run)[: len(before)] == before
    assert seen.steps[0].step == 3


def test_a_second_trainer_on_the_same_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    control = started_control()
    run = train(tiny_config(corpus), tmp_path, stop_after(control, 1), control=control).run_path
    before = ledger_losses(run)
    with RunFolder.open(run).lock(), pytest.raises(RunFolderError, match="in use by process"):
        run_job(resume_job(run), started_control())
    assert ledger_losses(run) == before


def test_a_checkpoint_of_another_shape_is_refused(corpus: Path, tmp_path: Path) -> None:
    control = started_control()
    run = train(tiny_config(corpus), tmp_path, stop_after(control, 1), control=control).run_path
    job = resume_job(run, accept_changes=True)
    wide = job.config.model_copy(
        update={"model": job.config.model.model_copy(update={"width": 32})}
    )
    before = ledger_losses(run)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run_job(replace(job, config=wide), started_control())
    assert ledger_losses(run) == before


def test_an_error_in_the_batches_fails_the_run_and_keeps_the_work(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingData.train_batches

    def breaking(self: TrainingData, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(original(self, epoch, start_batch)):
            if number == 3:
                raise CorpusError("A shard is damaged", subject="shard-1")
            yield batch

    monkeypatch.setattr(TrainingData, "train_batches", breaking)
    with pytest.raises(CorpusError, match="shard is damaged"):
        train(tiny_config(corpus), tmp_path)
    (run,) = tmp_path.iterdir()
    info = RunFolder.open(run).info
    assert info.state == "failed"
    assert "A shard is damaged" in info.error
    assert len(ledger_losses(run)) == 3


def test_a_killed_run_is_listed_with_what_it_had_reached(corpus: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(record: StepRecord) -> None:
        if record.epoch == 2:
            raise Killed

    seen = Recorder(kill)
    with pytest.raises(Killed):
        train(tiny_config(corpus), tmp_path, seen)
    (run,) = tmp_path.iterdir()
    info = RunFolder.open(run).info
    (epoch,) = seen.epochs
    assert epoch.dev is not None
    assert (info.epochs, info.best_wer) == (1, epoch.dev.errors.wer)
    assert info.duration_s == pytest.approx(epoch.duration_s)
    worked_s = sum(step.data_s + step.step_s for step in seen.steps[:-1])
    assert epoch.duration_s == pytest.approx(worked_s + epoch.dev.duration_s)
