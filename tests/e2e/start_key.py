"""The real program on an offscreen screen, with F5 pressed so many seconds after its window was there.

    python -m tests.e2e.start_key SECONDS CONFIG.toml

Prints what came of it: the batches trained until the window was closed, or why the run failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.application import WindowOptions, run_application
from app.main_window import MainWindow
from core.config import load_config
from signscope.run_state import RunState

LOOK_EVERY_MS = 5


def main(seconds: float, config: Path) -> int:
    application = QApplication(sys.argv[:1])
    look = QTimer(application)

    def window() -> MainWindow | None:
        return next((w for w in application.topLevelWidgets() if isinstance(w, MainWindow)), None)

    def wait_for_window() -> None:
        if (found := window()) is not None and found.isVisible():
            look.timeout.disconnect()
            look.timeout.connect(wait_for_batch)
            QTimer.singleShot(round(1000 * seconds), lambda: QTest.keyClick(found, Qt.Key.Key_F5))

    def wait_for_batch() -> None:
        found = window()
        assert found is not None
        failed = found.controller.snapshot().state is RunState.FAILED
        if failed or found.monitor.newest >= 0:
            look.stop()
            told = f"failed: {found.messages.text()}" if failed else "trained"
            print(told, flush=True)
            found.close_unattended()

    look.timeout.connect(wait_for_window)
    look.start(LOOK_EVERY_MS)
    return run_application(WindowOptions(config=load_config(config)))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2])))
