"""Garbage of Qt objects is collected in the GUI thread, and nowhere else.

Python collects cycles in whatever thread happens to allocate. In a window that thread is often the trainer's, and what
it frees may be widgets of a closed dialog: Qt objects that may be destroyed in the GUI thread only. So the automatic
collection is off while the window lives, and a timer of the GUI thread does the same by the same thresholds.
"""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer, Slot

_LOOK_EVERY_MS = 200


class GarbageCollector(QObject):
    """Collects instead of Python's own collector until :meth:`stop`. GUI thread only."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        gc.disable()
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def settle(self) -> None:
        """Take all that exists now for what lives as long as the window, and never look at it again.

        Called once what training needs is imported: the modules of torch alone are some 350,000 objects, and looking
        through them would stand still for 0.2 seconds, in the middle of a run.
        """
        gc.freeze()

    def stop(self) -> None:
        """Give collecting back to Python."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()

    @Slot()
    def _look(self) -> None:
        """Collect the oldest generation that is due, as Python would: it takes the younger ones along."""
        due = [
            generation
            for generation, (count, threshold) in enumerate(
                zip(gc.get_count(), gc.get_threshold(), strict=True)
            )
            if count > threshold
        ]
        if due:
            gc.collect(due[-1])
