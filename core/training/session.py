"""A whole run from settings to result: corpus, run folder, ledger, checkpoints, trainer.

The command line, the window's trainer thread and the tests all train through :func:`run_job`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from core.analysis.health.assessment import INPUTS_META, assess
from core.analysis.health.window import StepWindow
from core.config import DEMO_CORPUS, RunConfig, config_to_toml, load_run_config
from core.corpus.batching import TrainingData
from core.corpus.demo import ensure_demo_corpus
from core.corpus.reader import Corpus
from core.corpus.training_inputs import measure_training_inputs
from core.errors import CheckpointError
from core.landmarks.input_statistics import (
    InputsObserver,
    InputStatistics,
)
from core.model.teacher import encoded_length
from core.training.checkpoint import (
    CheckpointStore,
    best_checkpoint,
    go_back,
    read_checkpoint,
)
from core.training.device import ComputeMode, compute_mode, compute_settings
from core.training.log_file import LogFile
from core.training.policy import UpdatePolicy, clip_policy, parse_policy
from core.training.provenance import resume_differences, versions
from core.training.resuming import Position, find_position
from core.training.run_info_keeper import RunInfoKeeper
from core.training.trainer import Trainer
from signscope.errors import RunFolderError, SignScopeError
from signscope.folder import CorpusInfo, RunFolder, default_name, write_atomically
from signscope.ledger import Ledger
from signscope.records import EventKind, TrainingObserver
from signscope.run_state import RunControl

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """What to train, and where its run folder goes.

    Args:
        config: All settings; when resuming, the settings to go on with.
        runs_dir: Folder in which the run folder is made.
        resume: Run folder to go on with instead of making a new one.
        checkpoint: File name within the run's checkpoints to resume from; None takes the newest.
        accept_changes: Resume although corpus, settings, code or machine differ from the checkpoint's.
        policy: Only a replay gives one. None: normal training clips and always applies, and a resumed
            run keeps the policy that it was made with.
        max_steps: End the run, evaluated, after this many batches; None trains all epochs.
    """

    config: RunConfig
    runs_dir: Path
    resume: Path | None = None
    checkpoint: str | None = None
    accept_changes: bool = False
    policy: UpdatePolicy | None = None
    max_steps: int | None = None


@runtime_checkable
class FolderObserver(Protocol):
    """A training observer that also wants to know the run folder, before its first batch."""

    def on_folder(self, path: Path) -> None:
        """Take the folder, which has its ledger by now; called in the trainer's thread."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended. WERs are shares, NaN where nothing was evaluated."""

    run_path: Path
    state: Literal["finished", "stopped"]
    steps: int
    epochs: int
    best_wer: float
    test_wer: float


class ChangedSinceCheckpointError(CheckpointError):
    """Resuming would not continue the same run; ``differences`` says why."""

    def __init__(self, differences: Sequence[str], run: Path) -> None:
        super().__init__(
            "The run can be resumed, but not as if it had never stopped: " + " ".join(differences),
            subject=str(run),
            hint="Resume with --accept-changes (the window asks) if that is what you want.",
        )
        self.differences = tuple(differences)


def resume_job(
    run: Path, *, checkpoint: str | None = None, accept_changes: bool = False
) -> TrainingJob:
    """Give the job that goes on with the run in folder ``run``, with the settings in its config.toml."""
    config = load_run_config(RunFolder.open(run))
    return TrainingJob(config, run.parent, run, checkpoint, accept_changes)


def open_corpus(name: str, progress: Callable[[int, int], None] | None = None) -> Corpus:
    """Open the corpus of a config: a folder, or the demo corpus, which is made when missing."""
    return Corpus.open(ensure_demo_corpus(progress=progress) if name == DEMO_CORPUS else Path(name))


def run_job(
    job: TrainingJob, control: RunControl, observers: Sequence[TrainingObserver] = ()
) -> RunResult:
    """Train until the run is finished or a stop is asked for. Blocks the calling thread.

    The caller applies START to ``control`` before, and FINISHED or FAILED after this returned or
    raised, when its thread is about to be gone.

    Raises:
        SignScopeError: What happened, to what, and what to do; the run folder keeps all that was done.
            A start that fails leaves no new folder, and a resumed run as it was.
    """
    with _prepared(job) as run, contextlib.ExitStack() as stack:
        ledger = Ledger(run.folder.ledger_path, meta=_ledger_meta(run.policy, run.inputs))
        stack.callback(ledger.close)
        checkpoints = CheckpointStore(
            run.folder.checkpoints_dir, job.config.checkpoint.keep, before_write=ledger.flush
        )
        stack.callback(checkpoints.close)
        log = LogFile(run.folder.log_path, job.config.optim.epochs, run.policy.max_norm)
        keeper = RunInfoKeeper(run.folder, run.position)
        own: list[TrainingObserver] = [stack.enter_context(log), keeper]
        all_observers = [*own, *observers]
        trainer = Trainer(
            job.config,
            run.data,
            mode=run.mode,
            policy=run.policy,
            control=control,
            ledger=ledger,
            checkpoints=checkpoints,
            observers=all_observers,
            provenance=run.provenance,
            max_steps=job.max_steps,
        )
        if run.position is None:
            _begin(run, trainer)
        else:
            _go_on(run, run.position, trainer, ledger)
        if ledger.notice:
            trainer.event(EventKind.INFO, ledger.notice)
        stack.enter_context(_told_in_folder(run))
        _tell_folder_and_inputs(run, trainer, observers)
        finished = trainer.run()
        checkpoints.wait()
        test_wer = _evaluate_held_out(run, trainer, ledger, all_observers) if finished else math.nan
        if finished:
            trainer.event(EventKind.FINISHED, "Finished")
        else:
            kept = f"Stopped after {trainer.step} batches; the checkpoint keeps the work"
            trainer.event(EventKind.STOPPED, kept)
        ledger.flush()
        result = RunResult(
            run.folder.path,
            "finished" if finished else "stopped",
            trainer.step,
            trainer.epoch - 1,
            trainer.best_wer if math.isfinite(trainer.best_wer) else math.nan,
            test_wer,
        )
        keeper.conclude(
            state=result.state,
            epochs=result.epochs,
            batches=result.steps,
            best_wer=_or_none(result.best_wer),
        )
    return result


@dataclass(frozen=True)
class _PreparedRun:
    """What a run stands on: opened, checked, and held until it ends."""

    config: RunConfig
    corpus: Corpus
    data: TrainingData
    inputs: InputStatistics
    mode: ComputeMode
    folder: RunFolder
    policy: UpdatePolicy
    provenance: dict[str, object]
    position: Position | None  # None for a new run
    changes: Sequence[str]  # what differs from the checkpoint at ``position``, one sentence each


@contextlib.contextmanager
def _prepared(job: TrainingJob) -> Iterator[_PreparedRun]:
    """Open and check all that can be, before anything of a resumed run is changed."""
    mode = compute_mode(job.config)
    with contextlib.ExitStack() as stack:
        corpus = stack.enter_context(open_corpus(job.config.data.corpus))
        data = TrainingData(
            corpus,
            job.config.data,
            seed=job.config.seed,
            encoded_length=lambda frames: encoded_length(frames, job.config.model),
        )
        inputs = measure_training_inputs(corpus, data.splits.train)
        threads = stack.enter_context(compute_settings(mode, job.config.threads))
        folder = stack.enter_context(_run_folder(job, corpus))
        stack.enter_context(folder.lock())
        position = None if job.resume is None else find_position(folder, job.checkpoint)
        policy = _policy(job, position)
        provenance = {
            "policy": policy.name,
            "config_toml": config_to_toml(job.config),
            "corpus_fingerprint": corpus.fingerprint,
            "vocabulary": data.vocabulary.glosses,
            "threads": threads,
            "device": str(mode.device),
            "device_name": mode.device_name,
            "versions": versions(),
        }
        changes = resume_differences(position.checkpoint.state, provenance) if position else []
        if changes and not job.accept_changes:
            raise ChangedSinceCheckpointError(changes, folder.path)
        yield _PreparedRun(
            job.config,
            corpus,
            data,
            inputs,
            mode,
            folder,
            policy,
            provenance,
            position,
            changes,
        )


def _policy(job: TrainingJob, position: Position | None) -> UpdatePolicy:
    if job.policy is not None:
        return job.policy
    max_norm = job.config.optim.max_norm
    if position is None:
        return clip_policy(max_norm)
    return parse_policy(position.checkpoint.state.policy, max_norm)


@contextlib.contextmanager
def _run_folder(job: TrainingJob, corpus: Corpus) -> Iterator[RunFolder]:
    """Give the run's folder. A new one is gone again after an error that came before the run began."""
    if job.resume is not None:
        yield RunFolder.open(job.resume)
        return
    now = time.time()
    folder = RunFolder.create(
        job.runs_dir,
        job.config.name or default_name(corpus.name, now),
        created=now,
        total_epochs=job.config.optim.epochs,
    )
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(RunFolderError):
            if folder.read_info().state == "idle":
                shutil.rmtree(folder.path, ignore_errors=True)
        raise


# ---------------------------------------------------------------- beginning and going on


def _begin(run: _PreparedRun, trainer: Trainer) -> None:
    write_atomically(run.folder.config_path, config_to_toml(run.config).encode())
    trainer.event(
        EventKind.STARTED,
        f"{run.mode.describe()}; corpus {run.corpus.name}, {run.data.describe()}"
        + _unusual(run.policy),
    )
    _tell_unalignable(trainer, run.data)
    trainer.save_checkpoint()  # from here on a kill loses nothing that cannot be resumed


def _go_on(run: _PreparedRun, position: Position, trainer: Trainer, ledger: Ledger) -> None:
    state = position.checkpoint.state
    trainer.restore(position.checkpoint, position.rows_of_epoch, position.best)
    # Checkpoints before rows: a kill between leaves rows too many, which resuming cuts.
    keep = run.config.checkpoint.keep
    go_back(run.folder.checkpoints_dir, state.step, position.best, keep)
    ledger.truncate_from(state.step, state.epoch)
    trainer.event(
        EventKind.STARTED,
        f"Resumed at batch {trainer.step}; {run.mode.describe()}" + _unusual(run.policy),
    )
    if position.best_changed():
        trainer.event(EventKind.INFO, position.best_changed())
    if run.changes:
        trainer.event(EventKind.INFO, "Changed since the checkpoint: " + " ".join(run.changes))
        # Agreed to once: the next resume finds a checkpoint and settings that say the same.
        trainer.save_checkpoint()
        write_atomically(run.folder.config_path, config_to_toml(run.config).encode())


def _unusual(policy: UpdatePolicy) -> str:
    return "" if policy.name == "clip" else f"; update policy {policy.name}"


def _ledger_meta(policy: UpdatePolicy, inputs: InputStatistics) -> dict[str, str | float]:
    bound = {} if policy.max_norm is None else {"max_norm": policy.max_norm}
    return {"policy": policy.name, INPUTS_META: inputs.to_json(), **bound}


def _tell_folder_and_inputs(
    run: _PreparedRun, trainer: Trainer, observers: Sequence[TrainingObserver]
) -> None:
    """Hand both to the observers that want them, and warn when something is wrong with the input."""
    for observer in observers:
        if isinstance(observer, FolderObserver):
            observer.on_folder(run.folder.path)
        if isinstance(observer, InputsObserver):
            observer.on_inputs(run.inputs)
    for finding in assess(StepWindow.of_records([]), inputs=run.inputs):
        trainer.event(EventKind.ALERT, finding.text)


def _tell_unalignable(trainer: Trainer, data: TrainingData) -> None:
    for warning in data.warnings:
        trainer.event(EventKind.ALERT, warning)
    if not data.unalignable:
        return
    trainer.event(
        EventKind.ALERT,
        f"{len(data.unalignable)} sample(s) are too short for CTC and are left out:",
    )
    for sample in data.unalignable:
        trainer.event(EventKind.INFO, f"left out {sample.id}: {sample.reason}")


# ---------------------------------------------------------------- ending


def _evaluate_held_out(
    run: _PreparedRun,
    trainer: Trainer,
    ledger: Ledger,
    observers: Sequence[TrainingObserver],
) -> float:
    """Evaluate the held-out signers with the weights of the best epoch; NaN when there are none."""
    if not run.data.splits.test:
        return math.nan
    epoch = _take_best_weights(run, trainer)
    evaluation = trainer.evaluate("test")
    assert evaluation is not None
    ledger.append_evaluation(epoch, evaluation)
    for observer in observers:
        observer.on_test(evaluation)
    return evaluation.errors.wer


def _take_best_weights(run: _PreparedRun, trainer: Trainer) -> int:
    """Load the weights of the best epoch, where they are kept; say, and give, of which epoch they are."""
    path = best_checkpoint(run.folder.checkpoints_dir)
    if not path.exists():
        epoch = trainer.epoch - 1
        which = f"the last weights, of epoch {epoch}: no epoch was found to be the best, or it is not kept"
    else:
        best = read_checkpoint(path)
        trainer.load_weights(best)
        epoch = best.state.epoch - 1
        which = f"the weights of epoch {epoch}, the best (dev WER {best.state.best_wer or 0:.1%})"
    trainer.event(EventKind.INFO, f"The held-out signers are recognised with {which}")
    return epoch


@contextlib.contextmanager
def _told_in_folder(run: _PreparedRun) -> Iterator[None]:
    """Keep run.json's state true: running inside, failed with its reason when an error leaves."""
    folder, corpus = run.folder, run.corpus
    folder.update_info(
        state="running",
        error="",
        device=str(run.mode.device),
        versions=versions(),
        corpus=CorpusInfo(
            name=corpus.name,
            path=str(corpus.path),
            fingerprint=corpus.fingerprint,
            synthetic=corpus.synthetic,
        ),
    )
    try:
        yield
    except BaseException as error:
        # The folder may be the very thing that is gone; its error must not hide the first one.
        with contextlib.suppress(RunFolderError):
            folder.update_info(state="failed", error=_told(error))
        raise


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, SignScopeError) else f"{type(error).__name__}: {error}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
