"""Keeps run.json in step with the run, so that a killed run is listed with what it had reached."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from signscope.errors import RunFolderError
from signscope.folder import RunFolder
from signscope.records import EpochRecord, Evaluation, RunEventRecord, StepRecord


class RunInfoKeeper:
    """A TrainingObserver that writes what a list of runs shows, after each epoch.

    ``duration_s`` counts batches (waiting for data among them) and evaluations, not pauses, over all
    stretches of a resumed run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._duration_s = folder.read_info().duration_s
        self._test_wer: float | None = None

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """Note nothing: the plan was written when the folder was made."""

    def on_step(self, record: StepRecord) -> None:
        """Add the time of one batch."""
        self._duration_s += record.data_s + record.step_s

    def on_epoch(self, record: EpochRecord) -> None:
        """Write what was reached; a disk that is full now is told by the ledger."""
        if record.dev is not None:
            self._duration_s += record.dev.duration_s
        with contextlib.suppress(RunFolderError):
            best = self._folder.read_info().best_wer
            reached = math.nan if record.dev is None else record.dev.errors.wer
            wers = [wer for wer in (best, reached) if wer is not None and not math.isnan(wer)]
            self._folder.update_info(
                epochs=record.epoch, best_wer=min(wers, default=None), duration_s=self._duration_s
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
