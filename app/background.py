"""Work that takes a while, in a thread: awaited without freezing, with progress, and cancelled on request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import QProgressDialog, QWidget
from shiboken6 import Shiboken

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called with (done, total) in the working thread; raises WorkCancelled once nobody wants the result."""

_SHOW_AFTER_MS = 300
_BAR_STEPS = 1000


class WorkCancelled(Exception):
    """The person cancelled the work in progress."""


class Work(QObject):
    """One piece of work with its progress. Made and awaited in the GUI thread."""

    progressed = Signal(int, int)
    """(done, total), in the GUI thread."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cancelled = threading.Event()

    @Slot()
    def cancel(self) -> None:
        """Let the work end at its next progress."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    def progress(self, done: int, total: int) -> None:
        """Report progress, from the working thread."""
        if self._cancelled.is_set():
            raise WorkCancelled
        self.progressed.emit(done, total)

    async def run(self, work: Callable[[Progress], T]) -> T:
        """Do ``work`` in a background thread and give its result.

        Raises:
            WorkCancelled: It was cancelled.
            Exception: Whatever ``work`` raised.
        """
        try:
            return await asyncio.to_thread(work, self.progress)
        except asyncio.CancelledError:
            self._cancelled.set()  # the loop is closing: the thread must not keep it waiting
            raise


class Tasks(QObject):
    """Coroutines started by slots. Their errors reach the loop's handler, and ``cancel`` ends them all."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._running: set[asyncio.Task[object]] = set()

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine in the loop that is running."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._on_done)

    @property
    def busy(self) -> bool:
        """Whether any is still going on."""
        return bool(self._running)

    def cancel(self) -> None:
        """End all of them at their next await."""
        for task in tuple(self._running):
            task.cancel()

    def _on_done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": str(error), "exception": error})


class _Bar(QProgressDialog):
    def __init__(self, title: str, unit: str, parent: QWidget | None) -> None:
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


async def with_progress(
    title: str, unit: str, parent: QWidget | None, work: Callable[[Progress], T]
) -> T:
    """Do ``work`` in a thread behind a small progress window, shown when it takes longer than a moment.

    Args:
        title: What is being done.
        unit: What is counted ("batches").
        parent: Window that it belongs to.
        work: Called with a Progress.

    Raises:
        WorkCancelled: The person pressed Cancel.
        Exception: Whatever ``work`` raised.
    """
    task = Work()
    bar = _Bar(title, unit, parent)
    task.progressed.connect(bar.show_progress)
    bar.canceled.connect(task.cancel)
    try:
        return await task.run(work)
    finally:
        if Shiboken.isValid(bar):  # it goes with its window
            bar.close()
            bar.deleteLater()
