"""Training in a terminal: text on standard output, a progress bar on standard error, Ctrl-C as a clean stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

from core.analysis.narrator import Narrator
from core.errors import PausedItselfError
from signscope.errors import SignScopeError
from signscope.records import (
    EpochRecord,
    Evaluation,
    EventKind,
    RunEventRecord,
    StepRecord,
)
from signscope.run_state import RunControl, RunEvent, RunSnapshot, RunState

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is in all (0 while that is not known)."""

_REDRAW_S = 0.1
_REDRAW_IN_FILE_S = 10.0  # a bar that ends up in a file or a CI log should not fill it


class _Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    monitor_interval = 0  # tqdm's helper thread is of no use to a bar that moves with every batch


class _Lines:
    """A stream for a bar that does not end up on a screen: each state of the bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> None:
        if state := text.strip("\r\n "):
            self._stream.write(state + "\n")

    def flush(self) -> None:
        self._stream.flush()


def _new_bar(stream: TextIO, **options: Any) -> Any:
    if stream.isatty():
        return _Bar(file=stream, mininterval=_REDRAW_S, dynamic_ncols=True, **options)
    return _Bar(file=_Lines(stream), mininterval=_REDRAW_IN_FILE_S, **options)


@contextlib.contextmanager
def progress_bar(text: str, unit: str = "", *, in_bytes: bool = False) -> Iterator[Progress]:
    """Show a bar named ``text`` on standard error; yields the function that moves it.

    Nothing is drawn before the first call, so work that turns out to be done already stays silent.
    """
    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = _new_bar(sys.stderr, desc=text, unit=unit, unit_scale=in_bytes, leave=False)
        bar.total = total or None
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.refresh()
            bar.close()


class ConsoleObserver:
    """Prints a run as it happens. All calls come from the thread that trains.

    Args:
        max_norm: What gradients are clipped to; None for a replay without clipping.
        every: Print each ``every``-th batch; batches that were not applied are always printed.
        batches: How many batches the run has, where that is not its epochs times their batches.
        label: Stands before the epoch in the bar.
        bar_only: Print alerts and errors, and nothing else beside the bar.
        out: Where the lines go; None takes standard output.
        bar_out: Where the progress bar goes; None takes standard error.
    """

    def __init__(
        self,
        max_norm: float | None,
        *,
        every: int = 1,
        batches: int | None = None,
        label: str = "",
        bar_only: bool = False,
        out: TextIO | None = None,
        bar_out: TextIO | None = None,
    ) -> None:
        self._max_norm = max_norm
        self._every = every
        self._batches = batches
        self._label = f"{label}, epoch" if label else "Epoch"
        self._bar_only = bar_only
        self._out = out or sys.stdout
        self._bar_out = bar_out or sys.stderr
        self._narrator = Narrator(0, max_norm, every)
        self._bar: Any = None
        self._epochs = 0
        self._wer = ""

    def on_run(self, total_epochs: int, batches_per_epoch: int) -> None:
        """Open the bar over all batches of the run."""
        self._epochs = total_epochs
        self._narrator = Narrator(total_epochs, self._max_norm, self._every)
        self.close()
        total = self._batches or total_epochs * batches_per_epoch
        self._bar = _new_bar(self._bar_out, total=total, unit="batch", leave=False)

    def on_step(self, record: StepRecord) -> None:
        """Print the batch and move the bar to it."""
        if not self._bar_only:
            self._print(self._narrator.step(record))
        if self._bar is None:
            return
        if self._bar.n == 0 and record.step:  # a resumed run: the speed counts from here
            self._bar.initial = self._bar.n = record.step
        self._bar.set_description_str(f"{self._label} {record.epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss={record.loss:.2f}{self._wer}", refresh=False)
        self._bar.update(record.step + 1 - self._bar.n)

    def on_epoch(self, record: EpochRecord) -> None:
        """Print the closing line of the epoch."""
        if record.dev is not None:
            self._wer = f", WER={100 * record.dev.errors.wer:.1f}%"
        if not self._bar_only:
            self._print(self._narrator.epoch(record))

    def on_event(self, record: RunEventRecord) -> None:
        """Print the event."""
        if not self._bar_only or record.kind in (EventKind.ALERT, EventKind.ERROR):
            self._print(self._narrator.event(record))

    def on_test(self, evaluation: Evaluation) -> None:
        """Print how the held-out signers were recognised."""
        self._print(self._narrator.test(evaluation))

    def close(self) -> None:
        """Remove the bar from the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            _Bar.write(line, file=self._out)  # moves a bar on the same screen out of the way
        if lines:
            self._out.flush()


Work = TypeVar("Work")


def run_in_terminal(work: Callable[[RunControl], Work]) -> tuple[Work, bool]:
    """Do ``work`` in the calling thread with a control that Ctrl-C asks to stop.

    A run that pauses itself is stopped with a checkpoint instead, because a terminal has nobody to
    resume it; its alert has said why. Gives what ``work`` returned and whether that happened. Errors of
    ``work`` pass through.

    Raises:
        PausedItselfError: It paused itself, and what made it pause (a full disk) kept it from being saved.
    """
    paused_itself = False

    def stop_when_paused(snapshot: RunSnapshot) -> None:
        nonlocal paused_itself
        if snapshot.state is RunState.PAUSED:
            paused_itself = True
            control.apply(RunEvent.STOP)

    control = RunControl(stop_when_paused)
    control.apply(RunEvent.START)
    with stop_on_signals(control):
        try:
            result = work(control)
        except BaseException as error:
            control.apply(RunEvent.FAILED)
            if paused_itself and isinstance(error, SignScopeError):
                raise PausedItselfError(
                    error.what, subject=error.subject, hint=error.hint
                ) from error
            raise
        control.apply(RunEvent.FINISHED)
    return result, paused_itself


@contextlib.contextmanager
def stop_on_signals(control: RunControl) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) ask ``control`` to stop and the second end the process at once.

    Only the main thread can catch signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        control.apply_if_allowed(RunEvent.STOP)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nStopping after this batch, with a checkpoint. Ctrl-C again ends at once.\n")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
