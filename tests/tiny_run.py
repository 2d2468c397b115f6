"""A corpus and settings so small that a whole run takes about a second, for every test that trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.config import RunConfig, config_from_dict
from core.corpus.demo import make_demo_corpus
from core.training.session import RunResult, TrainingJob, run_job
from signscope.ledger import LedgerReader
from signscope.records import EpochRecord, Evaluation, RunEventRecord, StepRecord
from signscope.run_state import RunControl, RunEvent

BATCHES_PER_EPOCH = 7


def tiny_corpus(folder: Path) -> Path:
    """Make a corpus of 2 signers and 27 sentences: with a tenth for dev, 7 batches of at most 4 an epoch."""
    path = folder / "tiny-corpus"
    if not path.exists():
        make_demo_corpus(path, signers=2, glosses=6, sentences=27)
    return path


def tiny_config(corpus: Path, **sections: dict[str, Any] | Any) -> RunConfig:
    """Give settings of a small model; ``sections`` are merged over them."""
    values: dict[str, Any] = {
        "name": "tiny",
        "device": "cpu",
        "threads": 1,
        "data": {"corpus": str(corpus), "batch_size": 4, "prefetch": 1},
        "model": {"part_dim": 8, "width": 16, "layers": 1},
        "optim": {"epochs": 2, "warmup_steps": 2},
        "checkpoint": {"every_batches": 4, "every_minutes": 0},
    }
    for name, changes in sections.items():
        values[name] = {**values[name], **changes} if isinstance(changes, dict) else changes
    return config_from_dict(values)


class Recorder:
    """An observer that keeps everything, and can act on a step in the trainer's thread."""

    def __init__(self, at_step: Callable[[StepRecord], object] = lambda record: None) -> None:
        self.steps: list[StepRecord] = []
        self.epochs: list[EpochRecord] = []
        self.events: list[RunEventRecord] = []
        self.tests: list[Evaluation] = []
        self._at_step = at_step

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        self.plan = (total_epochs, batches_per_epoch)

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record)
        self._at_step(record)

    def on_epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record)

    def on_event(self, record: RunEventRecord) -> None:
        self.events.append(record)

    def on_test(self, evaluation: Evaluation) -> None:
        self.tests.append(evaluation)


def started_control() -> RunControl:
    """Give a control that START was applied to."""
    control = RunControl()
    control.apply(RunEvent.START)
    return control


def train(
    config: RunConfig, runs_dir: Path, *observers: Recorder, control: RunControl | None = None
) -> RunResult:
    """Train to the end in this thread."""
    return run_job(TrainingJob(config, runs_dir), control or started_control(), observers)


def stop_after(control: RunControl, step: int) -> Recorder:
    """Give an observer that asks for a stop in batch ``step``."""
    return Recorder(lambda record: control.apply(RunEvent.STOP) if record.step == step else None)


@contextmanager
def training_thread(
    job: TrainingJob, control: RunControl, observers: Sequence[Recorder] = ()
) -> Iterator[Callable[[], RunResult]]:
    """Train in a thread; yields a function that waits for the result and raises the run's error."""
    outcome: list[RunResult | BaseException] = []

    def work() -> None:
        try:
            outcome.append(run_job(job, control, observers))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="trainer")
    thread.start()

    def result() -> RunResult:
        thread.join(60)
        assert not thread.is_alive(), "the run did not end"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    try:
        yield result
    finally:
        control.apply_if_allowed(RunEvent.STOP)
        thread.join(60)


def ledger_losses(run: Path) -> list[tuple[int, int, int, float, float, float, str]]:
    """Give what must be the same, bit for bit, however often a run was interrupted."""
    with LedgerReader(run / "ledger.sqlite") as reader:
        return [
            (
                s.step,
                s.epoch,
                s.batch_idx,
                s.loss,
                s.grad_norm_pre,
                s.grad_norm_post,
                ",".join(s.sample_ids),
            )
            for s in reader.steps()
        ]
