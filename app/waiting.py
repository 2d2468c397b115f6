"""Awaiting what Qt announces by signal, without a nested event loop. GUI thread, inside the qasync loop."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import QObject, SignalInstance, Slot
from PySide6.QtWidgets import QDialog


class _Once(QObject):
    def __init__(self, future: asyncio.Future[object]) -> None:
        super().__init__()
        self._future = future

    @Slot(object)
    def arrive(self, value: object = None) -> None:
        if not self._future.done():
            self._future.set_result(value)


async def next_signal(signal: SignalInstance) -> object:
    """Wait until ``signal`` comes the next time; give what it carries (None when it carries nothing)."""
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    once = _Once(future)
    signal.connect(once.arrive)
    try:
        return await future
    finally:
        signal.disconnect(once.arrive)


async def dialog_result(dialog: QDialog) -> int:
    """Open ``dialog`` and wait until the person closes it; give its result code."""
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    once = _Once(future)
    dialog.finished.connect(once.arrive)
    dialog.open()
    try:
        result = await future
    finally:
        dialog.finished.disconnect(once.arrive)
    return int(str(result))
