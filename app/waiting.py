"""Awaiting what Qt announces by signal, without a nested event loop. GUI thread, inside the qasync loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QObject, SignalInstance, Slot
from PySide6.QtWidgets import QDialog
from shiboken6 import Shiboken


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
