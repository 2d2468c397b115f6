"""Qt objects that nobody holds any more are destroyed in the GUI thread, whoever makes garbage."""

from __future__ import annotations

import gc
import threading

from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot


class Looped(QObject):
    """Holds itself, so that only the collector of cycles can free it."""

    def __init__(self, freed_in: list[int]) -> None:
        super().__init__()
        self.me = self
        self._freed_in = freed_in

    def __del__(self) -> None:
        self._freed_in.append(threading.get_ident())


def test_garbage_of_qt_is_freed_in_the_gui_thread_while_another_makes_more(qtbot: QtBot) -> None:
    freed_in: list[int] = []
    for _ in range(5):
        Looped(freed_in)

    def make_garbage() -> None:
        for _ in range(200_000):
            cycle: list[object] = []
            cycle.append(cycle)

    assert not gc.isenabled()
    worker = threading.Thread(target=make_garbage)
    worker.start()
    worker.join()
    assert freed_in == []
    qtbot.waitUntil(lambda: len(freed_in) == 5, timeout=30_000)
    assert set(freed_in) == {threading.get_ident()}
