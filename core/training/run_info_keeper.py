"""Keeps run.json in step with the run, so that a killed run is listed with what it had reached."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from core.training.resuming import Position
from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.records import EpochRecord, Evaluation, RunEventRecord, StepRecord


class RunInfoKeeper:
    """A TrainingObserver that writes what a list of runs shows, after each epoch.

    ``duration_s`` counts batches (waiting for data among them) and evaluations, not pauses, over all
    stretches of a resumed run.
    """

    def __init__(self, folder: RunFolder, position: Position | None) -> None:
        self._folder = folder
        self._position = position
        self._duration_s = folder.read_info().duration_s
        self._best_wer = math.inf
        self._test_wer: float | None = None

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """Write what holds where a resumed run goes on: what came after it is about to be made again."""
        if self._position is None:
            return
        best = self._position.best
        self._best_wer = math.inf if best is None else best.wer
        with contextlib.suppress(RunFolderError):
            self._folder.update_info(
                epochs=self._position.checkpoint.state.epoch - 1,
                total_epochs=total_epochs,
                best_wer=None if best is None else best.wer,
                test_wer=None,
            )

    def on_step(self, record: StepRecord) -> None:
        """Add the time of one batch."""
        self._duration_s += record.data_s + record.step_s

    def on_epoch(self, record: EpochRecord) -> None:
        """Write what was reached; a disk that is full now is told by the ledger."""
        if record.dev is not None:
            self._duration_s += record.dev.duration_s
            if record.dev.errors.wer < self._best_wer:
                self._best_wer = record.dev.errors.wer
        with contextlib.suppress(RunFolderError):
            self._folder.update_info(
                epochs=record.epoch,
                best_wer=self._best_wer if math.isfinite(self._best_wer) else None,
                duration_s=self._duration_s,
            )

    def on_event(self, record: RunEventRecord) -> None:
        """Note nothing: events stand in the ledger."""

    def on_test(self, evaluation: Evaluation) -> None:
        """Keep the held-out result for the end."""
        self._duration_s += evaluation.duration_s
        self._test_wer = None if math.isnan(evaluation.errors.wer) else evaluation.errors.wer

    def conclude(self, **fields: Any) -> None:
        """Write the end of the run; raises RunFolderError when that is not possible."""
        self._folder.update_info(duration_s=self._duration_s, test_wer=self._test_wer, **fields)
