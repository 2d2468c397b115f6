"""Work beside the window that ends by itself: in a thread, with progress, and cancelled on request.

There are two ways to run something beside the window. What lives long (the trainer, a replay, the
camera) is a QThread with an owner. Everything else goes through :func:`background`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, Generic, TypeVar, cast

from PySide6.QtCore import QObject, Qt, Signal, SignalInstance, Slot
from PySide6.QtWidgets import QProgressDialog, QWidget
from shiboken6 import Shiboken

from app.waiting import noticed
from signscope.errors import SignScopeError

T = TypeVar("T")

_TELL_EVERY_S: Final = 0.05
_SHOW_AFTER_MS: Final = 300
_BAR_STEPS: Final = 1000


class WorkCancelled(Exception):
    """Nobody wants the result of the work any more."""


class Progress:
    """Handed to work in a thread: tells how far it is, and whether anybody still wants it."""

    def __init__(self, cancelled: threading.Event, progressed: SignalInstance) -> None:
        self._cancelled = cancelled
        self._progressed: SignalInstance | None = progressed
        self._told_s = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the work is to end. Any thread."""
        return self._cancelled.is_set()

    def __call__(self, done: int, total: int) -> None:
        """Say how far the work is; shown at most 20 times a second. The working thread only.

        Raises:
            WorkCancelled: Nobody wants the result any more.
        """
        if self.cancelled:
            raise WorkCancelled
        now_s = time.monotonic()
        if self._progressed is not None and (
            done == total or now_s - self._told_s >= _TELL_EVERY_S
        ):
            self._told_s = now_s
            self._progressed.emit(done, total)

    def close(self) -> None:
        """Let go of the job: the frames that an error keeps alive must not keep it, too."""
        self._progressed = None


class Job(QObject, Generic[T]):
    """Work that :func:`background` started. GUI thread only; await it, or connect ``finished``."""

    progressed = Signal(int, int)
    """(done, total)."""
    finished = Signal()
    """The work is over; ``result`` gives what came of it. Not sent once the program ends."""
    _over = Signal()

    def __init__(self, owner: QObject, work: Callable[[Progress], T], name: str) -> None:
        super().__init__()
        self._cancelled = threading.Event()
        self._outcome: _Outcome[T] = _Outcome(self._cancelled)
        self._concluded = False
        self._with_owner = owner.destroyed.connect(self.cancel)
        self._over.connect(self._conclude, Qt.ConnectionType.QueuedConnection)
        # A daemon: a read from a share that never answers does not keep the program from ending.
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)

    @property
    def over(self) -> bool:
        """Whether the work has ended and was announced."""
        return self._concluded

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    @Slot()
    def cancel(self) -> None:
        """Let the work end at its next progress."""
        self._cancelled.set()

    def result(self) -> T:
        """Give the result of work that is over, once.

        Raises:
            WorkCancelled: It was cancelled.
            Exception: Whatever the work raised.
        """
        assert self._concluded
        return self._outcome.take()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the thread; say whether it is gone. Blocks: for the end of the program and tests."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result without freezing; being cancelled there cancels the work."""
        return self._wait().__await__()

    async def _wait(self) -> T:
        with noticed(self.finished) as finished:
            if not self._concluded:
                try:
                    await finished.wait()
                except asyncio.CancelledError:
                    self.cancel()
                    raise
        return self.result()

    def _start(self) -> None:
        _running.add(self)
        self._thread.start()

    def _run(self, work: Callable[[Progress], T]) -> None:
        progress = Progress(self._cancelled, self.progressed)
        value, error = _attempt(work, progress)
        progress.close()
        self._outcome.set(value, error)
        self._over.emit()
        del self, error  # the error's traceback keeps this frame: it must not keep the job

    @Slot()
    def _conclude(self) -> None:
        if self not in _running:
            return
        self._thread.join()  # it has nothing left to do: what it held of this object is let go here
        _running.discard(self)
        QObject.disconnect(self._with_owner)
        self._concluded = True
        self.finished.emit()


def _attempt(
    work: Callable[[Progress], T], progress: Progress
) -> tuple[T | None, BaseException | None]:
    try:
        return work(progress), None
    except BaseException as error:
        return None, error


class _Outcome(Generic[T]):
    """What came of work, and the memory of whether anybody asked for an error."""

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled
        self._value: T | None = None
        self._error: BaseException | None = None

    def set(self, value: T | None, error: BaseException | None) -> None:
        self._value, self._error = value, error

    def take(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast(T, self._value)

    def __del__(self) -> None:
        """Send an error that nobody asked for where all unexpected errors go."""
        error = self._error
        unwanted = isinstance(error, WorkCancelled) or (
            self._cancelled.is_set() and isinstance(error, SignScopeError)
        )
        if error is not None and not unwanted:
            sys.excepthook(type(error), error, error.__traceback__)


_running: set[Job[Any]] = set()
"""Jobs whose thread was not seen to end. GUI thread only."""


def background(owner: QObject, work: Callable[[Progress], T], name: str = "background") -> Job[T]:
    """Begin ``work`` in a thread of its own. GUI thread only.

    ``await background(...)`` gives its result or raises its error; without a coroutine, connect
    ``finished`` and ask for ``result`` there. An error that was not asked for when the job is let go
    reaches the dialog for unexpected errors. Work whose owner is destroyed is cancelled.

    Args:
        owner: Whom the result is for.
        work: Called in the thread with its Progress, to be called now and then.
        name: Of the thread.
    """
    job: Job[T] = Job(owner, work, name)
    job._start()
    return job


def end_all(timeout_s: float) -> tuple[str, ...]:
    """Cancel all work and wait for it; give the names of threads that were not gone within the limit.

    Blocks: for the very end of the program and for tests. Nothing more is announced of that work.
    """
    jobs = tuple(_running)
    _running.clear()
    for job in jobs:
        job.cancel()
    limit_s = time.monotonic() + timeout_s
    left = [job for job in jobs if not job.wait(max(0.0, limit_s - time.monotonic()))]
    _abandoned.update(left)
    return tuple(job._thread.name for job in left)


_abandoned: set[Job[Any]] = set()
"""Jobs that did not end when they were told to: their thread may use them until the process is gone."""


def work_left_behind() -> bool:
    """Whether any work did not end when it was told to: its thread may still be in a read."""
    return bool(_abandoned)


class _Bar(QProgressDialog):
    def __init__(self, title: str, unit: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("work_progress")
        self.setWindowTitle("SignScope")
        self.setLabelText(title)
        self._title, self._unit = title, unit
        self.setCancelButtonText("Cancel")
        self.setAutoClose(False)
        self.setAutoReset(False)
        self.setWindowModality(Qt.WindowModality.NonModal)  # a modal one runs a loop of its own
        self.setMinimumWidth(360)
        self.setRange(0, _BAR_STEPS)
        self.setMinimumDuration(_SHOW_AFTER_MS)
        self.setValue(0)

    @Slot(int, int)
    def show_progress(self, done: int, total: int) -> None:
        self.setValue(_BAR_STEPS * done // max(1, total))
        self.setLabelText(
            f"{self._title}\n{done:,} of {total:,} {self._unit}".replace(",", "\u2009")
        )


async def with_progress(title: str, unit: str, parent: QWidget, work: Callable[[Progress], T]) -> T:
    """Do ``work`` in the background behind a small progress window, shown when it takes longer than a moment.

    Args:
        title: What is being done.
        unit: What is counted ("batches").
        parent: Window that it belongs to.
        work: Called with a Progress.

    Raises:
        WorkCancelled: The person pressed Cancel.
        Exception: Whatever ``work`` raised.
    """
    bar = _Bar(title, unit, parent)
    job = background(parent, work, title)
    job.progressed.connect(bar.show_progress)
    bar.canceled.connect(job.cancel)
    try:
        return await job
    finally:
        if Shiboken.isValid(bar):  # it goes with its window
            bar.close()
            bar.deleteLater()
