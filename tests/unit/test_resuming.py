"""What a resumed run keeps: its policy, its settings, its averages, its counts, and one best epoch."""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.config import RunConfig, load_run_config
from core.corpus.batching import TrainingData
from core.corpus.reader import Corpus
from core.errors import CheckpointError, ConfigError
from core.model.teacher import Teacher, encoded_length
from core.training import trainer as trainer_module
from core.training.checkpoint import (
    Checkpoint,
    CheckpointState,
    best_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from core.training.device import ComputeMode, compute_mode
from core.training.evaluation import evaluate
from core.training.policy import parse_policy
from core.training.session import (
    ChangedSinceCheckpointError,
    TrainingJob,
    resume_job,
    run_job,
)
from signscope.folder import RunFolder
from signscope.ledger import LedgerReader
from signscope.records import EpochRecord, Evaluation, EventKind, Outcome, WordErrors
from signscope.run_state import RunEvent, RunState
from tests.tiny_run import (
    Recorder,
    ledger_losses,
    started_control,
    stop_after,
    tiny_config,
    train,
    training_thread,
)
from tests.unit.test_trainer import assert_same_run, spoil


def stopped_run(config: RunConfig, runs_dir: Path, step: int) -> Path:
    control = started_control()
    return train(config, runs_dir, stop_after(control, step), control=control).run_path


def evaluations(run: Path, split: str) -> dict[int, Evaluation]:
    with LedgerReader(run / "ledger.sqlite") as reader:
        return {epoch: found for epoch, found in reader.evaluations() if found.split == split}


def texts(seen: Recorder, kind: EventKind) -> list[str]:
    return [event.text for event in seen.events if event.kind is kind]


# ---------------------------------------------------------------- the policy


def test_resuming_keeps_the_update_policy(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus)
    job = TrainingJob(config, tmp_path / "whole", policy=parse_policy("skip:1", 1.0))
    whole = run_job(job, started_control()).run_path
    control = started_control()
    run = run_job(
        replace(job, runs_dir=tmp_path / "parts"), control, [stop_after(control, 4)]
    ).run_path
    seen = Recorder()
    run_job(resume_job(run), started_control(), [seen])
    assert Outcome.SKIPPED_BY_POLICY in {step.outcome for step in seen.steps}
    assert_same_run(run, whole)
    assert "update policy skip:1" in texts(seen, EventKind.STARTED)[0]


def test_resuming_with_another_policy_is_said_before(corpus: Path, tmp_path: Path) -> None:
    run = stopped_run(tiny_config(corpus), tmp_path, 2)
    other = replace(resume_job(run), policy=parse_policy("skip:1", 1.0))
    with pytest.raises(ChangedSinceCheckpointError, match="policy clip and goes on with skip:1"):
        run_job(other, started_control())


@pytest.mark.parametrize("threshold", [100.0, 0.5, 1234567.25, 1e-9, 3e30])
def test_a_policy_is_read_back_from_its_name_as_it_was(threshold: float) -> None:
    policy = parse_policy(f"skip:{threshold!r}", 1.0)
    assert parse_policy(policy.name, 1.0) == policy
    assert policy.skip_above == threshold


# ---------------------------------------------------------------- the settings


def test_settings_changed_on_resuming_hold_for_the_next_resume(
    corpus: Path, tmp_path: Path
) -> None:
    run = stopped_run(tiny_config(corpus), tmp_path, 2)
    job = resume_job(run, accept_changes=True)
    slower = job.config.model_copy(
        update={"optim": job.config.optim.model_copy(update={"lr": 1e-4})}
    )
    control = started_control()
    seen = stop_after(control, 4)
    run_job(replace(job, config=slower), control, [seen])
    assert any("optim.lr (0.003, now 0.0001)" in text for text in texts(seen, EventKind.INFO))
    assert load_run_config(RunFolder.open(run)) == slower
    seen = Recorder()
    assert run_job(resume_job(run), started_control(), [seen]).state == "finished"
    assert {step.lr <= 1e-4 for step in seen.steps} == {True}


def test_changed_settings_hold_even_if_the_run_was_killed_in_its_next_batch(
    corpus: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die(_record: object) -> None:
        raise Killed

    run = stopped_run(tiny_config(corpus), tmp_path, 2)
    job = resume_job(run, accept_changes=True)
    longer = job.config.model_copy(
        update={"optim": job.config.optim.model_copy(update={"epochs": 3})}
    )
    with pytest.raises(Killed):
        run_job(replace(job, config=longer), started_control(), [Recorder(die)])
    assert run_job(resume_job(run), started_control()).epochs == 3


def test_a_folder_whose_run_never_began_is_named_so_on_resuming(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run").path
    with pytest.raises(ConfigError, match="never began") as caught:
        resume_job(run)
    assert "Start a new run" in caught.value.hint


def test_another_graphics_card_or_processor_is_said(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(ComputeMode, "device_name", "NVIDIA T4")
        run = stopped_run(tiny_config(corpus), tmp_path, 2)
    here = re.escape(
        f"made on cpu (NVIDIA T4) and goes on on cpu ({torch.backends.cpu.get_cpu_capability()})"
    )
    with pytest.raises(ChangedSinceCheckpointError, match=here):
        run_job(resume_job(run), started_control())


# ---------------------------------------------------------------- the best epoch


def scripted(monkeypatch: pytest.MonkeyPatch, wers: list[float]) -> None:
    """Let the dev evaluations of a course find these WERs, one an epoch, whatever the weights are."""
    coming = iter(wers)

    def scripted_evaluate(*arguments: object) -> Evaluation | None:
        found = evaluate(*arguments)  # type: ignore[arg-type]
        if found is None or found.split != "dev":
            return found
        errors = WordErrors(round(1000 * next(coming)), 0, 0, 1000, 1000)
        return replace(found, errors=errors, loss=1.0)

    monkeypatch.setattr(trainer_module, "evaluate", scripted_evaluate)


def with_held_out(corpus: Path, epochs: int, keep: int) -> RunConfig:
    return tiny_config(
        corpus,
        data={"test_signers": ["D02"], "dev_share": 0.2},
        optim={"epochs": epochs, "lr": 0.01},
        checkpoint={"every_batches": 0, "keep": keep},
    )


def held_out_by(config: RunConfig, weights: Checkpoint) -> float:
    """The held-out loss of these weights, measured here."""
    with Corpus.open(Path(config.data.corpus)) as opened:
        data = TrainingData(
            opened,
            config.data,
            seed=config.seed,
            encoded_length=lambda frames: encoded_length(frames, config.model),
        )
        model = Teacher(config.model, data.vocabulary.size)
        model.load_state_dict(weights.group("model"))
        found = evaluate(
            model, data.eval_batches("test"), data.vocabulary, compute_mode(config), "test"
        )
    assert found is not None
    return found.loss


def epoch_end(run: Path, epoch: int, batches: int) -> str:
    name = f"step-{epoch * batches:010d}.safetensors"
    assert (run / "checkpoints" / name).exists()
    return name


@pytest.mark.parametrize(
    ("again", "best"), [([0.7, 0.6], 4), ([0.7, 0.8], 1), ([0.2, 0.1], 4), ([0.3, 0.4], 3)]
)
def test_weights_figures_and_test_are_of_one_epoch_after_going_back_before_the_best(
    again: list[float], best: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_held_out(corpus, epochs=4, keep=99)
    wers = {1: 0.65, 2: 0.66}
    scripted(monkeypatch, [0.65, 0.66, 0.1, 0.5, *again])
    run = train(config, tmp_path).run_path
    batches = newest_checkpoint(run / "checkpoints").state.step // 4
    assert read_checkpoint(best_checkpoint(run / "checkpoints")).state.epoch == 4
    assert list(evaluations(run, "test")) == [3]
    seen = Recorder()
    result = run_job(
        resume_job(run, checkpoint=epoch_end(run, 2, batches)), started_control(), [seen]
    )
    wers |= dict(zip((3, 4), again, strict=True))
    kept = read_checkpoint(best_checkpoint(run / "checkpoints"))
    assert kept.state.epoch - 1 == best
    assert result.best_wer == RunFolder.open(run).info.best_wer == wers[best]
    assert kept.state.best_wer == wers[best]
    (epoch, found), *more = evaluations(run, "test").items()
    assert (epoch, more) == (best, [])
    assert found.loss == pytest.approx(held_out_by(config, kept), rel=1e-6)
    assert any(f"weights of epoch {best}, the best" in text for text in texts(seen, EventKind.INFO))


def test_the_best_is_found_anew_where_none_of_its_weights_is_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_held_out(corpus, epochs=3, keep=99)
    scripted(monkeypatch, [0.3, 0.2, 0.1, 0.9, 0.8])
    run = train(config, tmp_path).run_path
    folder = run / "checkpoints"
    batches = newest_checkpoint(folder).state.step // 3
    start = list_checkpoints(folder)[-1]
    for path in list_checkpoints(folder):  # so that epoch 1, the best before, is nowhere
        if path.name not in (start.name, epoch_end(run, 3, batches)):
            path.unlink()
    state = read_checkpoint(start).state.model_copy(update={"best_wer": 0.3, "best_loss": 1.0})
    write_checkpoint(Checkpoint(state, read_checkpoint(start).tensors), start)
    seen = Recorder()
    job = resume_job(run, checkpoint=start.name)
    result = run_job(replace(job, max_steps=2 * batches), started_control(), [seen])
    assert result.best_wer == 0.8
    assert read_checkpoint(best_checkpoint(folder)).state.epoch - 1 == 2
    assert list(evaluations(run, "test")) == [2]
    assert any("best are found anew" in text for text in texts(seen, EventKind.INFO))


def test_the_best_of_what_is_kept_has_its_own_figures(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.3, 0.5, 0.1, 0.7, 0.6])
    run = train(with_held_out(corpus, epochs=3, keep=99), tmp_path).run_path
    folder = run / "checkpoints"
    batches = newest_checkpoint(folder).state.step // 3
    (folder / epoch_end(run, 1, batches)).unlink()  # the best until then
    back = resume_job(run, checkpoint=epoch_end(run, 2, batches))
    for job in (back, resume_job(run)):  # and once more when it is finished
        assert run_job(job, started_control()).best_wer == 0.5
        kept = read_checkpoint(best_checkpoint(folder)).state
        assert (kept.epoch - 1, kept.best_wer) == (2, 0.5)
        assert RunFolder.open(run).info.best_wer == 0.5


def test_the_last_weights_are_never_tested_in_silence(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Losing(Recorder):
        def on_epoch(self, record: EpochRecord) -> None:
            if record.epoch == 2:
                (found,) = tmp_path.glob("*/checkpoints/best.safetensors")
                found.unlink()

    scripted(monkeypatch, [0.3, 0.5])
    losing = Losing()
    run = train(with_held_out(corpus, epochs=2, keep=9), tmp_path, losing).run_path
    said = [event.text for event in losing.events if event.kind is EventKind.INFO]
    assert any("the last weights, of epoch 2" in text for text in said)
    assert list(evaluations(run, "test")) == [2]


def test_run_json_forgets_the_best_that_a_resumed_run_gave_up(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.1])
    run = train(with_held_out(corpus, epochs=2, keep=99), tmp_path).run_path
    start = list_checkpoints(run / "checkpoints")[-1].name
    told = []
    control = started_control()
    seen = stop_after(control, 1)
    looking = Recorder(lambda _: told.append(RunFolder.open(run).info))
    run_job(resume_job(run, checkpoint=start), control, [looking, seen])
    for info in (told[0], RunFolder.open(run).info):
        assert (info.best_wer, info.test_wer, info.epochs) == (None, None, 0)


def test_a_kill_before_the_oldest_checkpoint_was_removed_leaves_none_too_many(
    corpus: Path, tmp_path: Path
) -> None:
    run = train(tiny_config(corpus, checkpoint={"keep": 2}), tmp_path).run_path
    newest, before = list_checkpoints(run / "checkpoints")
    shutil.copy(before, before.with_name("step-0000000001.safetensors"))
    run_job(resume_job(run), started_control())  # it is finished: no checkpoint is written any more
    assert list_checkpoints(run / "checkpoints") == [newest, before]


# ---------------------------------------------------------------- averages and counts


def test_a_resumed_average_of_the_weights_is_the_one_never_interrupted(
    corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(corpus, optim={"ema_decay": 0.9})
    whole = train(config, tmp_path / "whole").run_path
    parts = stopped_run(config, tmp_path / "parts", 4)
    run_job(resume_job(parts), started_control())
    assert_same_run(parts, whole)
    assert [e.loss for e in evaluations(parts, "dev").values()] == [
        e.loss for e in evaluations(whole, "dev").values()
    ]


def test_the_average_of_the_weights_is_what_is_evaluated(corpus: Path, tmp_path: Path) -> None:
    config = with_held_out(corpus, epochs=1, keep=1)
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"ema_decay": 0.9})})
    run = train(config, tmp_path).run_path
    last = newest_checkpoint(run / "checkpoints")
    average = {
        f"model.{name.removeprefix('module.')}": tensor
        for name, tensor in last.group("average").items()
        if name != "n_averaged"
    }
    by_average = held_out_by(config, Checkpoint(last.state, average))
    assert evaluations(run, "test")[1].loss == pytest.approx(by_average, rel=1e-6)
    assert abs(held_out_by(config, last) - by_average) > 1e-3


def test_bad_batches_before_a_stop_count_towards_the_pause_after_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(corpus, optim={"non_finite_pause": 3})
    spoil(monkeypatch, {1, 2, 3}, math.nan)  # of the whole course: batch 1 and 2, then 3
    run = stopped_run(config, tmp_path, 2)
    control = started_control()
    seen = Recorder()
    with training_thread(resume_job(run), control, [seen]):
        assert control.wait_for(RunState.PAUSED, timeout_s=30)
        assert [step.step for step in seen.steps] == [3]
        assert "3 batches in a row were not finite" in texts(seen, EventKind.ALERT)[0]
        control.apply(RunEvent.STOP)


# ---------------------------------------------------------------- checkpoints of format 1


def as_format_1(checkpoint: Checkpoint) -> Checkpoint:
    """The same with the names that format 1 gave: one LSTM of all layers."""

    def old(name: str) -> str:
        return re.sub(
            r"encoder\.layers\.(\d+)\.(\w+)_l0(_reverse)?$", r"encoder.lstm.\2_l\1\3", name
        )

    values = checkpoint.state.model_dump() | {"schema_version": 1, "device_name": ""}
    return Checkpoint(
        CheckpointState.model_validate(values),
        {old(name): tensor for name, tensor in checkpoint.tensors.items()},
    )


def test_a_checkpoint_with_the_old_names_of_two_lstm_layers_goes_on_and_says_so(
    corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(corpus, model={"layers": 2}, optim={"ema_decay": 0.9})
    whole = train(config, tmp_path / "whole").run_path
    run = stopped_run(config, tmp_path / "parts", 4)
    newest = list_checkpoints(run / "checkpoints")[0]
    old = as_format_1(read_checkpoint(newest))
    assert {
        "model.encoder.lstm.weight_ih_l1_reverse",
        "average.module.encoder.lstm.bias_hh_l0",
    } <= (old.tensors.keys())
    write_checkpoint(old, newest)
    with pytest.raises(
        ChangedSinceCheckpointError, match="dropout may go on with other random numbers"
    ):
        run_job(resume_job(run), started_control())
    run_job(resume_job(run, accept_changes=True), started_control())
    assert ledger_losses(run) == ledger_losses(whole)  # on the cpu nothing is different
    assert newest_checkpoint(run / "checkpoints").state.schema_version == 2


def test_the_old_names_of_attention_layers_are_known(tmp_path: Path) -> None:
    state = CheckpointState(
        schema_version=1, step=0, epoch=1, batch_idx=0, applied=0, non_finite_streak=0, best_wer=None,
        policy="clip", config_toml="", corpus_fingerprint="", vocabulary=(), threads=1, device="cpu",
        versions={},
    )  # fmt: skip
    names = (
        "model.encoder.layers.layers.1.self_attn.in_proj_weight",
        "model.encoder.layers.norm.bias",
    )
    write_checkpoint(Checkpoint(state, {name: torch.zeros(1) for name in names}), tmp_path / "old")
    assert read_checkpoint(tmp_path / "old").tensors.keys() == {
        "model.encoder.layers.1.self_attn.in_proj_weight",
        "model.encoder.norm.bias",
    }


# ---------------------------------------------------------------- files of a checkpoint


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
def test_a_pipe_or_device_as_checkpoint_or_settings_is_refused_at_once(
    corpus: Path, tmp_path: Path
) -> None:
    run = stopped_run(tiny_config(corpus), tmp_path, 2)
    newest = list_checkpoints(run / "checkpoints")[0]
    job = resume_job(run)
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        newest.unlink()
        make(newest)
        with pytest.raises(CheckpointError, match="not a regular file"):
            run_job(job, started_control())
    (run / "config.toml").unlink()
    os.mkfifo(run / "config.toml")
    with pytest.raises(ConfigError, match="not a regular file"):
        resume_job(run)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_resumed_run_keeps_no_checkpoint_open_or_mapped(corpus: Path, tmp_path: Path) -> None:
    run = stopped_run(tiny_config(corpus), tmp_path, 2)
    checkpoint = newest_checkpoint(run / "checkpoints")
    assert checkpoint.tensors
    assert "safetensors\n" not in Path("/proc/self/maps").read_text()
    opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [path for path in opened if path.endswith(".safetensors")]
