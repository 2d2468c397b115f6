"""Fetches the landmark models in a thread of its own, with progress, while the window stays alive."""

from __future__ import annotations

import threading
import time
from typing import Final

from PySide6.QtCore import QObject, QThread, Signal, Slot

from core.errors import ModelFileError
from core.landmarks.models import ensure_models
from signscope.errors import SignScopeError

_TELL_EVERY_S: Final = 0.05


class _FetchThread(QThread):
    progressed = Signal(str, int, int)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("model fetcher")
        self.cancelled = threading.Event()
        self.failure: SignScopeError | None = None
        self._told_s = 0.0

    def run(self) -> None:
        """Fetch what is missing."""
        try:
            ensure_models(progress=self._tell, cancelled=self.cancelled.is_set)
        except SignScopeError as error:
            self.failure = error
        except Exception as error:
            self.failure = ModelFileError(
                f"Fetching the landmark models failed ({type(error).__name__}: {error})",
                hint="Try again; if this comes back, please report it.",
            )

    def _tell(self, name: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if done == total or now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            self.progressed.emit(name, done, total)


class ModelFetcher(QObject):
    """Owner of the fetching thread. GUI thread only."""

    progressed = Signal(str, int, int)
    """Name of the file, bytes so far, bytes in total (0 while unknown); at most 20 times a second."""
    fetched = Signal()
    """All required models are in the cache."""
    failed = Signal(str)
    """A sentence for the person; nothing is sent after ``stop``."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._thread: _FetchThread | None = None

    @property
    def running(self) -> bool:
        """Whether models are being fetched."""
        return self._thread is not None

    @Slot()
    def start(self) -> None:
        """Begin fetching, unless it has begun."""
        if self._thread is not None:
            return
        self._thread = _FetchThread()
        self._thread.progressed.connect(self.progressed)
        self._thread.finished.connect(self._on_finished)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Break off and wait; what has arrived is kept and resumed. False when the limit passed."""
        thread = self._thread
        if thread is None:
            return True
        thread.cancelled.set()
        if not thread.wait(round(1000 * timeout_s)):
            return False
        self._thread = None
        return True

    @Slot()
    def _on_finished(self) -> None:
        thread = self._thread
        if thread is None or thread is not self.sender():
            return
        thread.wait()
        self._thread = None
        if thread.failure is None:
            self.fetched.emit()
        else:
            self.failed.emit(str(thread.failure))
