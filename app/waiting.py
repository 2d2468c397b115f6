"""Coroutines in the GUI thread: started by slots, awaiting what Qt announces by signal, no nested event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from PySide6.QtCore import QObject, SignalInstance, Slot
from PySide6.QtWidgets import QDialog
from shiboken6 import Shiboken


class Tasks(QObject):
    """Coroutines that the slots of ``parent`` start; they end with it. GUI thread, in the qasync loop.

    An error that leaves a coroutine reaches the loop's handler.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._running: set[asyncio.Task[object]] = set()
        running = self._running  # of this object nothing may be left when the collector takes both
        parent.destroyed.connect(lambda: _cancel(running))

    def start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine in the loop that is running."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._on_done)

    @property
    def busy(self) -> bool:
        """Whether any is still going on."""
        return bool(self._running)

    @Slot()
    def cancel(self) -> None:
        """End all of them at their next await."""
        _cancel(self._running)

    def _on_done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": str(error), "exception": error})


def _cancel(tasks: set[asyncio.Task[object]]) -> None:
    for task in tuple(tasks):
        task.cancel()


class _Flag(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    @Slot()
    def raise_(self) -> None:
        self.came.set()


@contextmanager
def noticed(*signals: SignalInstance) -> Iterator[asyncio.Event]:
    """Give an event that is set whenever one of ``signals`` comes: nothing is missed between two waits."""
    flag = _Flag()
    for signal in signals:
        signal.connect(flag.raise_)
    try:
        yield flag.came
    finally:
        Shiboken.delete(flag)  # disconnects it, also where the sender is gone by now


async def dialog_closed(dialog: QDialog) -> None:
    """Open ``dialog`` and wait until the person closes it, or it goes with its window."""
    with noticed(dialog.finished, dialog.destroyed) as closed:
        dialog.open()
        await closed.wait()
