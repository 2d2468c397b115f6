"""A whole run from settings to result: corpus, run folder, ledger, checkpoints, trainer.

The command line, the window's trainer thread and the tests all train through :func:`run_job`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from core.analysis.health.assessment import INPUTS_META, assess
from core.analysis.health.window import StepWindow
from core.config import DEMO_CORPUS, RunConfig, config_to_toml, load_config
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
    Checkpoint,
    CheckpointStore,
    best_checkpoint,
    newest_checkpoint,
    read_checkpoint,
    remove_after,
)
from core.training.device import ComputeMode, compute_mode, compute_settings
from core.training.log_file import LogFile
from core.training.policy import UpdatePolicy, clip_policy
from core.training.provenance import resume_differences, versions
from core.training.run_info_keeper import RunInfoKeeper
from core.training.trainer import Trainer
from signscope.errors import LedgerError, RunFolderError, SignScopeError
from signscope.folder import CorpusInfo, RunFolder, default_name, write_atomically
from signscope.ledger import Ledger, LedgerReader
from signscope.records import EventKind, StepRecord, TrainingObserver
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
        policy: Only a replay gives one; normal training always clips and always applies.
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
    folder = RunFolder.open(run)
    config = load_config(folder.config_path)
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
    """
    mode = compute_mode(job.config)
    with contextlib.ExitStack() as stack:
        corpus = stack.enter_context(open_corpus(job.config.data.corpus))
        data = TrainingData(
            corpus,
            job.config.data,
            seed=job.config.seed,
            encoded_length=lambda frames: encoded_length(frames, job.config.model),
        )
        folder = _run_folder(job, corpus)
        stack.enter_context(folder.lock())
        threads = stack.enter_context(compute_settings(mode, job.config.threads))
        position = _position(job, folder, corpus, threads, mode)
        stack.enter_context(_told_in_folder(folder, mode, corpus))
        return _train(job, folder, data, corpus, mode, threads, position, control, observers)


def _train(
    job: TrainingJob,
    folder: RunFolder,
    data: TrainingData,
    corpus: Corpus,
    mode: ComputeMode,
    threads: int,
    position: tuple[Checkpoint | None, list[StepRecord]],
    control: RunControl,
    observers: Sequence[TrainingObserver],
) -> RunResult:
    policy = job.policy or clip_policy(job.config.optim.max_norm)
    provenance = {
        "policy": policy.name,
        "config_toml": config_to_toml(job.config),
        "corpus_fingerprint": corpus.fingerprint,
        "vocabulary": data.vocabulary.glosses,
        "threads": threads,
        "device": str(mode.device),
        "versions": versions(),
    }
    checkpoint, rows = position
    inputs = measure_training_inputs(corpus, data.splits.train)
    with contextlib.ExitStack() as stack:
        ledger = Ledger(folder.ledger_path, meta=_ledger_meta(policy, inputs))
        stack.callback(ledger.close)
        checkpoints = CheckpointStore(
            folder.checkpoints_dir, job.config.checkpoint.keep, before_write=ledger.flush
        )
        stack.callback(checkpoints.close)
        log = stack.enter_context(
            LogFile(folder.log_path, job.config.optim.epochs, policy.max_norm)
        )
        keeper = RunInfoKeeper(folder)
        own: list[TrainingObserver] = [log, keeper]
        trainer = Trainer(
            job.config,
            data,
            mode=mode,
            policy=policy,
            control=control,
            ledger=ledger,
            checkpoints=checkpoints,
            observers=[*own, *observers],
            provenance=provenance,
            max_steps=job.max_steps,
        )
        if checkpoint is None:
            write_atomically(folder.config_path, config_to_toml(job.config).encode())
            trainer.event(
                EventKind.STARTED, f"{mode.describe()}; corpus {corpus.name}, {data.describe()}"
            )
            _tell_unalignable(trainer, data)
            trainer.save_checkpoint()  # from here on a kill loses nothing that cannot be resumed
        else:
            trainer.restore(checkpoint, rows)
            # Checkpoints before rows: a kill between leaves rows too many, which resuming cuts.
            remove_after(folder.checkpoints_dir, checkpoint.state.step)
            ledger.truncate_from(checkpoint.state.step, checkpoint.state.epoch)
            trainer.event(EventKind.STARTED, f"Resumed at batch {trainer.step}; {mode.describe()}")
        for observer in observers:
            if isinstance(observer, FolderObserver):
                observer.on_folder(folder.path)
        _tell_inputs(trainer, inputs, observers)
        finished = trainer.run()
        checkpoints.wait()
        test_wer = (
            _evaluate_held_out(trainer, data, folder, ledger, [*own, *observers])
            if finished
            else math.nan
        )
        trainer.event(
            EventKind.FINISHED if finished else EventKind.STOPPED,
            "Finished"
            if finished
            else f"Stopped after {trainer.step} batches; the checkpoint keeps the work",
        )
        ledger.flush()
    best_wer = trainer.best_wer if math.isfinite(trainer.best_wer) else math.nan
    keeper.conclude(
        state="finished" if finished else "stopped",
        epochs=trainer.epoch - 1,
        batches=trainer.step,
        best_wer=_or_none(best_wer),
    )
    return RunResult(
        folder.path,
        "finished" if finished else "stopped",
        trainer.step,
        trainer.epoch - 1,
        best_wer,
        test_wer,
    )


def _run_folder(job: TrainingJob, corpus: Corpus) -> RunFolder:
    if job.resume is not None:
        return RunFolder.open(job.resume)
    now = time.time()
    return RunFolder.create(
        job.runs_dir,
        job.config.name or default_name(corpus.name, now),
        created=now,
        total_epochs=job.config.optim.epochs,
    )


def _position(
    job: TrainingJob, folder: RunFolder, corpus: Corpus, threads: int, mode: ComputeMode
) -> tuple[Checkpoint | None, list[StepRecord]]:
    """Read and check what a resumed run goes on from, before anything in its folder is changed."""
    if job.resume is None:
        return None, []
    checkpoint = (
        newest_checkpoint(folder.checkpoints_dir)
        if job.checkpoint is None
        else read_checkpoint(folder.checkpoints_dir / job.checkpoint)
    )
    state = checkpoint.state
    differences = resume_differences(state, job.config, corpus, threads, str(mode.device))
    if differences and not job.accept_changes:
        raise ChangedSinceCheckpointError(differences, folder.path)
    with LedgerReader(folder.ledger_path) as reader:
        last = reader.last_step()
        if (-1 if last is None else last) + 1 < state.step:
            raise LedgerError(
                f"The ledger ends at batch {last}, but the checkpoint was made after {state.step} batches",
                subject=str(folder.ledger_path),
                hint="Resume from an older checkpoint with --checkpoint NAME.",
            )
        rows = reader.steps(state.step - state.batch_idx, state.step - 1) if state.batch_idx else []
    return checkpoint, rows


def _ledger_meta(policy: UpdatePolicy, inputs: InputStatistics) -> dict[str, str | float]:
    bound = {} if policy.max_norm is None else {"max_norm": policy.max_norm}
    return {"policy": policy.name, INPUTS_META: inputs.to_json(), **bound}


def _tell_inputs(
    trainer: Trainer, inputs: InputStatistics, observers: Sequence[TrainingObserver]
) -> None:
    """Hand the statistics of the input to whoever wants them, and warn when something is wrong with it."""
    for observer in observers:
        if isinstance(observer, InputsObserver):
            observer.on_inputs(inputs)
    for finding in assess(StepWindow.of_records([]), inputs=inputs):
        trainer.event(EventKind.ALERT, finding.text)


def _tell_unalignable(trainer: Trainer, data: TrainingData) -> None:
    if not data.unalignable:
        return
    trainer.event(
        EventKind.ALERT,
        f"{len(data.unalignable)} sample(s) are too short for CTC and are left out:",
    )
    for sample in data.unalignable:
        trainer.event(EventKind.INFO, f"left out {sample.id}: {sample.reason}")


def _evaluate_held_out(
    trainer: Trainer,
    data: TrainingData,
    folder: RunFolder,
    ledger: Ledger,
    observers: Sequence[TrainingObserver],
) -> float:
    """Evaluate the held-out signers with the weights of the best epoch; NaN when there are none."""
    if not data.splits.test:
        return math.nan
    best = best_checkpoint(folder.checkpoints_dir)
    if best.exists():
        trainer.load_weights(read_checkpoint(best))
    evaluation = trainer.evaluate("test")
    assert evaluation is not None
    ledger.append_evaluation(trainer.epoch - 1, evaluation)
    for observer in observers:
        observer.on_test(evaluation)
    return evaluation.errors.wer


@contextlib.contextmanager
def _told_in_folder(folder: RunFolder, mode: ComputeMode, corpus: Corpus) -> Iterator[None]:
    """Keep run.json's state true: running inside, failed with its reason when an error leaves."""
    folder.update_info(
        state="running",
        error="",
        device=str(mode.device),
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
