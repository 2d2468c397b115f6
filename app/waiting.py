"""Awaiting what Qt announces by signal, without a nested event loop. GUI thread, inside the qasync loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QObject, SignalInstance, Slot
from PySide6.QtWidgets import QDialog


class _Flag(QObject):
    def __init__(self) -> None:
        super().__init__()
        self.came = asyncio.Event()

    @Slot()
    def raise_(self) -> None:
        self.came.set()


@contextmanager
def noticed(signal: SignalInstance) -> Iterator[asyncio.Event]:
    """Give an event that is set whenever ``signal`` comes: nothing is missed between two waits."""
    flag = _Flag()
    signal.connect(flag.raise_)
    try:
        yield flag.came
    finally:
        signal.disconnect(flag.raise_)


async def dialog_closed(dialog: QDialog) -> None:
    """Open ``dialog`` and wait until the person closes it."""
    with noticed(dialog.finished) as closed:
        dialog.open()
        await closed.wait()
