"""A worker thread with a run's states: how training runs and replays are started, watched and ended.

The worker never waits for the window. It pushes what happens into a bounded buffer; a timer in the
GUI thread empties the buffer and sends everything on as one signal.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from app.training.compute_slot import ComputeSlot
from core.training.imports import import_training
from signscope.errors import SignScopeError
from signscope.run_state import RunControl, RunEvent, RunSnapshot

TICK_MS = 33


class WorkThread(QThread):
    """One piece of work from start to end; afterwards ``result`` or ``error`` is set."""

    def __init__(self, title: str, work: Callable[[], object], parent: QObject) -> None:
        super().__init__(parent)
        self.setObjectName(title)
        self._title = title
        self._work = work
        self.result: object = None
        self.error: SignScopeError | None = None

    def run(self) -> None:
        """Work in this thread; no error leaves it, each is kept for the window to show."""
        try:
            self.result = self._work()
        except SignScopeError as error:
            self.error = error
        except BaseException as error:
            traceback.print_exc()
            self.error = SignScopeError(
                f"The {self._title} ended with an unexpected error ({type(error).__name__}: {error})",
                subject=traceback.format_exc().strip().splitlines()[-3].strip(),
                hint="What was written before is kept. Please report this with the text above.",
            )


class WorkController(QObject):
    """Owns one worker thread at a time and its states. Every method is for the GUI thread.

    The thread first waits until everything is imported that training needs; a pause or a stop that is
    asked for meanwhile is heeded before the work begins.

    ``state_changed`` comes after every ``updated`` that carries a record which led to it. FINISHED and
    FAILED are announced when the thread is gone, so a start may be asked for in that very slot.

    Args:
        title: What the thread is called, also in an error: "trainer", "replay".
        slot: Shared with every other controller whose work must not go on at the same time.
    """

    prepared = Signal()
    """Everything is imported: the work begins."""
    updated = Signal(object)
    """What happened since the last time, at most one a tick; the subclass says as what."""
    state_changed = Signal(object)
    """A RunSnapshot."""
    ended = Signal(object)
    """The result of work that finished or was stopped, after its last state_changed."""
    failed = Signal(object)
    """The SignScopeError that ended the work, after its last state_changed."""

    _poked = Signal()

    def __init__(self, title: str, slot: ComputeSlot, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.slot = slot
        self._title = title
        self._control = RunControl(listener=self._on_transition)
        self._announced = self._control.snapshot()
        self._thread: WorkThread | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        # Queued: the worker's transitions arrive in this thread, and after the records before them.
        self._poked.connect(self._tick, Qt.ConnectionType.QueuedConnection)

    def snapshot(self) -> RunSnapshot:
        """Give the state that was announced last; buttons go by it."""
        return self._announced

    @property
    def active(self) -> bool:
        """Whether a worker thread exists."""
        return self._thread is not None

    def resume(self) -> bool:
        """Let resting work go on; say whether the state allowed it."""
        return self._control.apply_if_allowed(RunEvent.RESUME)

    def stop(self) -> bool:
        """Ask the work to save what it has and end after its current batch; say whether that was allowed."""
        return self._control.apply_if_allowed(RunEvent.STOP)

    def shutdown(self, timeout_s: float) -> bool:
        """Stop the work and wait for its thread; say whether it was gone within the limit.

        Blocks the GUI thread: for the very end of the program and for tests.
        """
        thread = self._thread
        if thread is None:
            return True
        self.stop()
        if not thread.wait(round(timeout_s * 1000)):
            return False
        self._conclude(thread)
        return True

    def _launch(self, work: Callable[[], object]) -> bool:
        """Start ``work`` in a thread if none is in progress here or in the slot; say whether it was started."""
        if self._thread is not None or not self.slot.take(self._title):
            return False
        self._control.apply(RunEvent.START)
        self._thread = WorkThread(self._title, lambda: self._prepared_work(work), self)
        self._thread.finished.connect(self._on_thread_finished)
        self._timer.start(TICK_MS)
        self._thread.start()
        return True

    def _prepared_work(self, work: Callable[[], object]) -> object:
        """Do ``work`` once it can begin, unless a stop came before: then give None. In the worker thread."""
        import_training()
        self._control.wait_while_paused()
        if self._control.wants_stop():
            return None
        self.prepared.emit()
        return work()

    def _deliver(self) -> None:
        """Empty the buffer and emit ``updated`` if there was anything."""
        raise NotImplementedError

    def _on_transition(self, _snapshot: RunSnapshot) -> None:
        self._poked.emit()

    @Slot()
    def _tick(self) -> None:
        # The state is read before the buffer: whatever led to it is in the buffer by then.
        snapshot = self._control.snapshot()
        self._deliver()
        if snapshot != self._announced:
            self._announced = snapshot
            self.state_changed.emit(snapshot)

    @Slot()
    def _on_thread_finished(self) -> None:
        thread = self._thread
        if thread is not None and thread.isFinished():
            self._conclude(thread)

    def _conclude(self, thread: WorkThread) -> None:
        thread.wait()
        self._timer.stop()
        self._thread = None
        self.slot.give_back()
        thread.deleteLater()
        self._control.apply(RunEvent.FINISHED if thread.error is None else RunEvent.FAILED)
        self._tick()
        if thread.error is not None:
            self.failed.emit(thread.error)
        elif thread.result is not None:
            self.ended.emit(thread.result)
