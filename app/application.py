"""Starts the window and ends it: every part is made here, in one visible order, and unmade in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import qasync
from PySide6.QtCore import QObject, QSocketNotifier, Qt, QTimer, Signal, Slot
from PySide6.QtWidgets import QApplication, QMessageBox

from app.background import background, end_all, work_left_behind
from app.camera.camera_controller import CameraController, thread_left_behind
from app.camera.preview_widget import PreviewWidget
from app.garbage import GarbageCollector
from app.icons import application_icon
from app.main_window import MainWindow
from app.messages import confirmed, unexpected_error_dialog
from app.monitor.preview_watch import PreviewWatch
from app.settings import WindowSettings
from app.theme import Theme
from app.training.run_controller import RunController
from app.waiting import Tasks, noticed
from core.config import RunConfig
from core.training.imports import import_training
from signscope.paths import runs_dir

EXIT_AFTER_VARIABLE = "SIGNSCOPE_EXIT_AFTER_S"
"""The window closes itself after so many seconds: for smoke tests of the real program."""

PATIENCE_S = 20.0
"""How long a stopping run may take before the person is offered to leave without it."""


@dataclass(frozen=True)
class WindowOptions:
    """What the command line asks of the window.

    Args:
        camera: Camera number, video file or folder of images for the preview, switched on at once.
        run: Run folder to show.
        config: Settings to begin with instead of those remembered.
    """

    camera: str | None = None
    run: Path | None = None
    config: RunConfig | None = None


def run_application(options: WindowOptions) -> int:
    """Show the window until the person leaves; give the exit status. Call it in the main thread."""
    application = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(application, QApplication)
    application.setApplicationName("SignScope")
    application.setDesktopFileName("signscope")
    application.setWindowIcon(application_icon())
    application.setQuitOnLastWindowClosed(False)
    with asyncio.Runner(loop_factory=lambda: _make_loop(application)) as runner:
        status = runner.run(_serve(application, options))
    if (
        thread_left_behind() or work_left_behind()
    ):  # everything is saved, and Qt would abort on the way out
        os._exit(status)
    return status


def _make_loop(application: QApplication) -> asyncio.AbstractEventLoop:
    return qasync.QEventLoop(application)  # type: ignore[no-any-return]


async def _serve(application: QApplication, options: WindowOptions) -> int:
    async with contextlib.AsyncExitStack() as closing:
        closing.callback(end_all, PATIENCE_S)
        garbage = GarbageCollector(application)
        closing.callback(garbage.stop)
        settings = WindowSettings()
        closing.callback(settings.sync)
        theme = Theme(application, settings.theme)
        controller = RunController()
        closing.callback(controller.shutdown, PATIENCE_S)
        camera = CameraController()
        closing.callback(camera.close)
        preview = PreviewWidget(camera, settings)
        closing.callback(preview.shutdown)
        window = MainWindow(
            theme=theme,
            settings=settings,
            controller=controller,
            camera=preview,
            runs_dir=runs_dir(),
        )
        closing.callback(window.deleteLater)
        watch = PreviewWatch(window.health)
        camera.frame_ready.connect(watch.take)
        camera.state_changed.connect(watch.follow)
        closing.enter_context(_last_resort(window))
        if options.config is not None:
            window.next_run.show_config(options.config)
        closing.enter_context(_signals_close(window))
        _close_after(os.environ.get(EXIT_AFTER_VARIABLE, ""), window)
        window.show()
        if options.run is not None:
            window.runs.open_run(options.run)
        else:
            window.runs.look_for_interrupted()
        if options.camera is not None:
            preview.set_source(options.camera)
            preview.switch_on()
        Tasks(window).start(_import_ahead(window, garbage))
        await _until_left(window, controller)
        window.leave()
    return 0


async def _import_ahead(window: MainWindow, garbage: GarbageCollector) -> None:
    """Import what Start needs while the person looks around: torch takes more than a second."""
    await asyncio.sleep(0)  # the window is painted first
    await background(window, lambda _: import_training(), "importing training")
    garbage.settle()
    window.next_run.refresh_corpus()


async def _until_left(window: MainWindow, controller: RunController) -> None:
    """Wait until the window may close: nothing runs, or the person agreed and the run was saved."""
    with noticed(window.close_asked) as asked, noticed(controller.state_changed) as changed:
        while True:
            await asked.wait()
            asked.clear()
            if not controller.active:
                if window.unattended or await window.runs.confirm_leaving():
                    return
                continue
            if window.unattended or await window.confirm_close():
                break
        window.show_leaving()
        controller.stop()
        while controller.active:
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), PATIENCE_S)
            except TimeoutError:
                if controller.active and await _gives_up(window):
                    # Ledger and last checkpoint are whole at every moment: the thread is left behind.
                    window.leave()
                    os._exit(1)


async def _gives_up(window: MainWindow) -> bool:
    return await confirmed(
        window,
        name="still_stopping",
        title="Close SignScope",
        text=f"The run has not stopped within {PATIENCE_S:.0f} seconds.",
        detail="A batch may take long, or the disk be slow. Leaving now loses what was trained since "
        "the last checkpoint; everything before is kept.",
        yes="Leave now",
        no="Wait",
        loses=True,
    )


# ---------------------------------------------------------------- ways to leave


def _close_after(text: str, window: MainWindow) -> None:
    with contextlib.suppress(ValueError):
        QTimer.singleShot(round(1000 * float(text)), window.close_unattended)


@contextlib.contextmanager
def _signals_close(window: MainWindow) -> Iterator[None]:
    """Close the window, its run saved, when the terminal or the system asks the program to end."""
    if sys.platform == "win32":
        yield
        return
    # Python runs its handlers only between its own instructions, and an idle window executes none:
    # the byte that each signal writes wakes the event loop.
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        notifier = QSocketNotifier(reader.fileno(), QSocketNotifier.Type.Read)
        notifier.activated.connect(lambda: reader.recv(64))
        before = signal.set_wakeup_fd(writer.fileno())
        numbers = (signal.SIGINT, signal.SIGTERM)
        handlers = [
            signal.signal(number, lambda *_: window.close_unattended()) for number in numbers
        ]
        try:
            yield
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            notifier.setEnabled(False)


# ---------------------------------------------------------------- errors nobody expected


class LastResort(QObject):
    """Shows errors that nobody caught in a dialog, whatever thread they come from, and on stderr."""

    _came = Signal(str, str)

    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._dialog: QMessageBox | None = None
        self._came.connect(self._show, Qt.ConnectionType.QueuedConnection)

    def take(self, error: BaseException) -> None:
        """Report an error. May be called from any thread."""
        details = "".join(traceback.format_exception(error))
        sys.stderr.write(details)
        self._came.emit(f"{type(error).__name__}: {error}", details)

    @Slot(str, str)
    def _show(self, summary: str, details: str) -> None:
        if self._dialog is not None:  # one dialog, however many errors: more would bury the window
            known = self._dialog.detailedText()
            if len(known) < 20_000:
                self._dialog.setDetailedText(f"{known}\n{details}")
            return
        self._dialog = unexpected_error_dialog(self._window, summary, details)
        self._dialog.finished.connect(self._on_closed)
        self._dialog.open()

    @Slot()
    def _on_closed(self) -> None:
        self._dialog = None


@contextlib.contextmanager
def _last_resort(window: MainWindow) -> Iterator[None]:
    """Send errors that nobody caught to a dialog: of this thread, of others, of background tasks."""
    resort = LastResort(window)

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            window.close_unattended()
        else:
            resort.take(error.with_traceback(trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            resort.take(args.exc_value)

    def in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        resort.take(context.get("exception") or RuntimeError(context.get("message", "unknown")))

    loop = asyncio.get_running_loop()
    hooks = sys.excepthook, threading.excepthook
    sys.excepthook, threading.excepthook = in_main, in_thread
    loop.set_exception_handler(in_loop)
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = hooks
        loop.set_exception_handler(None)
