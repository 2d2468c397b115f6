"""Records made up for the window's tests, and jobs that send them."""

from __future__ import annotations

import math
import time
from pathlib import Path

from app.training.live_run import RunRequest
from core.training.session import RunResult
from signscope.records import (
    EpochRecord,
    Evaluation,
    Outcome,
    StepRecord,
    TrainingObserver,
    WordErrors,
)
from signscope.run_state import RunControl

BATCHES = 10


def step_record(step: int, **changes: object) -> StepRecord:
    values: dict[str, object] = {
        "step": step,
        "epoch": step // BATCHES + 1,
        "batch_idx": step % BATCHES,
        "loss": 6.0 + 85.0 * math.exp(-step / 25),
        "loss_per_gloss": 1.0,
        "grad_norm_pre": 345.05 if step == 3 else 2.0,
        "grad_norm_post": 1.0,
        "clip_coef": 0.5,
        "lr": 1e-3,
        "outcome": Outcome.APPLIED,
        "sample_ids": ("a", "b"),
        "frames": 100,
        "glosses": 12,
        "blank_fraction": 0.9,
        "data_s": 0.001,
        "step_s": 0.01,
        "memory_mib": 500.0,
        "wall_time": 1_800_000_000.0 + 0.1 * step,
    }
    return StepRecord(**(values | changes))  # type: ignore[arg-type]


def bad_step(step: int) -> StepRecord:
    return step_record(
        step,
        grad_norm_pre=math.nan,
        grad_norm_post=math.nan,
        clip_coef=math.nan,
        outcome=Outcome.SKIPPED_NON_FINITE_GRADIENT,
        detail="encoder.weight is NaN",
    )


def epoch_record(epoch: int, non_finite: int = 0) -> EpochRecord:
    dev = Evaluation("dev", WordErrors(40, 30, 5, 100, 75), 8.0, 0.9, 20, 0.5)
    return EpochRecord(epoch, 284, 8.5, 284, 271, non_finite, 5, 0, 12.0, 1_800_000_000.0, dev)


class MadeJob:
    """Sends ``steps`` batches, then goes on until it is told to stop, pausing when asked to."""

    def __init__(self, steps: int = 25, *, epochs: int = 50, endless: bool = True) -> None:
        self.steps = steps
        self.epochs = epochs
        self.endless = endless

    def __call__(
        self, request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        observer.on_run(self.epochs, BATCHES)
        for step in range(self.steps):
            observer.on_step(step_record(step))
            if step % BATCHES == BATCHES - 1:
                observer.on_epoch(epoch_record(step // BATCHES + 1))
        while self.endless and not control.wants_stop():
            control.wait_while_paused()
            time.sleep(0.001)
        state = "stopped" if self.endless else "finished"
        return RunResult(Path("runs/made"), state, self.steps, self.steps // BATCHES, 0.4, math.nan)  # type: ignore[arg-type]
