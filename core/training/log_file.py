"""The run folder's log.txt: the lines that the window and the command line show."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

from core.analysis.narrator import Narrator
from signscope.files import open_to_append
from signscope.records import EpochRecord, Evaluation, RunEventRecord, StepRecord


class LogFile:
    """A TrainingObserver that appends to a text file; a context manager.

    The ledger is the account of a run, this file a convenience: when it cannot be written (disk
    full, folder gone, a link or a pipe in its place) the run goes on, and ``error`` keeps the reason.
    """

    def __init__(self, path: Path, total_epochs: int, max_norm: float | None) -> None:
        self._path = path
        self._narrator = Narrator(total_epochs, max_norm)
        self._file: TextIO | None = None
        self.error: OSError | None = None

    def __enter__(self) -> Self:
        try:
            self._file = open_to_append(self._path)
        except OSError as error:
            self.error = error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """Write nothing: the STARTED event says it."""

    def on_step(self, record: StepRecord) -> None:
        """Write the lines of one batch."""
        self._write(self._narrator.step(record), flush=False)

    def on_epoch(self, record: EpochRecord) -> None:
        """Write the line of one epoch."""
        self._write(self._narrator.epoch(record))

    def on_event(self, record: RunEventRecord) -> None:
        """Write the line of one event."""
        self._write(self._narrator.event(record))

    def on_test(self, evaluation: Evaluation) -> None:
        """Write the line of the held-out evaluation."""
        self._write(self._narrator.test(evaluation))

    def _write(self, lines: Sequence[str], *, flush: bool = True) -> None:
        if self._file is None or self.error is not None:
            return
        try:
            self._file.writelines(f"{line}\n" for line in lines)
            if flush:
                self._file.flush()
        except OSError as error:
            self.error = error
