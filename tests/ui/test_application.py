"""The program from its start to its end: painted before torch is there, closed without losing a run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from app.application import _last_resort, _until_left
from app.main_window import MainWindow
from signscope.invariants import broken_invariants
from signscope.reader import LedgerReader
from signscope.run_state import RunState
from tests.tiny_run import tiny_config, tiny_corpus
from tests.ui.conftest import MakeWindow, RunAsync
from tests.ui.made_runs import MadeJob

LIMIT_S = 30
REPOSITORY = Path(__file__).resolve().parents[2]


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(window: MainWindow) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the window as the program does; the task ends when the window may close."""
    task = asyncio.create_task(_until_left(window, window.controller))
    await asyncio.sleep(0)
    yield task
    async with asyncio.timeout(LIMIT_S):
        await task


def question(window: MainWindow) -> QMessageBox:
    box = window.findChild(QMessageBox, "confirm_close")
    assert box is not None
    return box


def press(box: QMessageBox, text: str) -> None:
    next(button for button in box.buttons() if button.text().replace("&", "") == text).click()


def test_a_window_at_rest_closes_without_a_question(
    make_window: MakeWindow, run_async: RunAsync
) -> None:
    window = make_window(MadeJob())

    async def go() -> None:
        async with served(window):
            assert not window.close(), "the event is not accepted by the window itself"

    run_async(go())
    assert window.findChild(QMessageBox, "confirm_close") is None


def test_closing_in_a_run_asks_and_may_be_called_off(
    make_window: MakeWindow, run_async: RunAsync
) -> None:
    window = make_window(MadeJob())
    window.start_run()

    async def go() -> None:
        async with served(window) as leaving:
            window.close()
            await until(lambda: window.findChild(QMessageBox, "confirm_close") is not None)
            press(question(window), "Keep running")
            await until(lambda: window.findChild(QMessageBox, "confirm_close") is None)
            assert window.controller.active
            assert not leaving.done()
            window.close()
            await until(lambda: window.findChild(QMessageBox, "confirm_close") is not None)
            press(question(window), "Stop and close")
            await leaving
        assert not window.controller.active

    run_async(go())
    assert window.controller.snapshot().state is RunState.FINISHED


def test_closing_in_a_real_run_keeps_its_work(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    window = make_window(folder=tmp_path / "runs")
    window.next_run.show_config(tiny_config(tiny_corpus(tmp_path), optim={"epochs": 1000}))
    window.start_run()

    async def go() -> None:
        await until(lambda: window.monitor.newest >= 3)
        async with served(window):
            window.close()
            await until(lambda: window.findChild(QMessageBox, "confirm_close") is not None)
            press(question(window), "Stop and close")

    run_async(go())
    (run,) = (tmp_path / "runs").iterdir()
    with LedgerReader(run / "ledger.sqlite") as reader:
        assert reader.counts().batches == len(window.monitor.history) >= 4
        assert broken_invariants(reader) == []
    assert list((run / "checkpoints").iterdir())


def test_a_paused_run_is_closed_too(make_window: MakeWindow, run_async: RunAsync) -> None:
    window = make_window(MadeJob())
    window.start_run()

    async def go() -> None:
        window.controller.pause()
        await until(lambda: window.controller.snapshot().state is RunState.PAUSED)
        async with served(window):
            window.close_unattended()

    run_async(go())
    assert window.controller.snapshot().state is RunState.FINISHED


def test_errors_nobody_caught_are_shown_wherever_they_come_from(
    make_window: MakeWindow, run_async: RunAsync, capsys: pytest.CaptureFixture[str]
) -> None:
    window = make_window(MadeJob())

    def fail() -> None:
        raise ZeroDivisionError("in a thread")

    async def fail_in_task() -> None:
        raise LookupError("in a task")

    async def go() -> None:
        with _last_resort(window):
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            await until(lambda: window.findChild(QMessageBox, "unexpected_error") is not None)
            box = window.findChild(QMessageBox, "unexpected_error")
            assert box is not None
            assert "ZeroDivisionError: in a thread" in box.informativeText()
            task = asyncio.create_task(fail_in_task())
            await asyncio.wait([task])
            asyncio.get_running_loop().call_exception_handler({"exception": task.exception()})
            await until(lambda: "LookupError: in a task" in box.detailedText())
            sys.excepthook(ValueError, ValueError("in a slot"), None)
            await until(lambda: "ValueError: in a slot" in box.detailedText())
            box.close()

    run_async(go())
    assert "ZeroDivisionError: in a thread" in capsys.readouterr().err


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "QT_QPA_PLATFORM": "offscreen",
        "PYTHONPATH": str(REPOSITORY),
        **more,
    }


def test_the_window_is_painted_before_torch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from PySide6.QtCore import QTimer\n"
        "import app.application as application\n"
        "assert not {'torch', 'cv2', 'mediapipe', 'pyarrow'} & set(sys.modules), 'at import'\n"
        "from app.monitor.monitor_view import MonitorView\n"
        "seen = []\n"
        "paint = application.MainWindow.paintEvent\n"
        "def paint_and_look(self, event):\n"
        "    seen.append('torch' in sys.modules)\n"
        "    paint(self, event)\n"
        "application.MainWindow.paintEvent = paint_and_look\n"
        "code = application.run_application(application.WindowOptions())\n"
        "print('painted', not seen[0], 'imported', 'torch' in sys.modules, 'code', code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path, SIGNSCOPE_EXIT_AFTER_S="0.2"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "painted True imported True code 0" in done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_signal_closes_the_window_and_saves_the_run(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import app.application as application\n"
        "from tests.tiny_run import tiny_config, tiny_corpus\n"
        "config = tiny_config(tiny_corpus(Path(sys.argv[1])), optim={'epochs': 100000})\n"
        "class Started(application.MainWindow):\n"
        "    def __init__(self, **parts):\n"
        "        super().__init__(**parts)\n"
        "        self.next_run.show_config(config)\n"
        "        self.start_run()\n"
        "        self.controller.updated.connect(self.tell)\n"
        "    def tell(self, _run):\n"
        "        print('batches', self.monitor.newest + 1, flush=True)\n"
        "application.MainWindow = Started\n"
        "sys.exit(application.run_application(application.WindowOptions()))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("batches") and int(line.split()[1]) >= 2:
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 0
    (run,) = Path(os.environ["SIGNSCOPE_RUNS"]).iterdir()
    assert list((run / "checkpoints").iterdir())
    assert '"stopped"' in (run / "run.json").read_text()


def test_timers_of_qt_and_tasks_share_one_loop(run_async: RunAsync) -> None:
    async def go() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        QTimer.singleShot(1, lambda: future.set_result("from Qt"))
        async with asyncio.timeout(LIMIT_S):
            return await future

    assert run_async(go()) == "from Qt"
    assert QApplication.instance() is not None
