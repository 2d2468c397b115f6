"""What is seen before a run is: the run that a loss of power interrupted, or how to start one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel, QPushButton

from app.main_window import MainWindow
from signscope.folder import RunFolder
from signscope.run_state import RunEvent, RunState
from tests.tiny_run import Recorder, started_control, tiny_config, tiny_corpus, train
from tests.ui.conftest import MakeWindow, RunAsync
from tests.ui.run_folders import make_run, until

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A run whose process was killed in the middle of it."""
    corpus = tiny_corpus(tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.tiny_run import tiny_config, train\n"
        "config = tiny_config(Path(sys.argv[1]), name='killed', optim={'epochs': 100000},"
        " checkpoint={'every_batches': 2})\n"
        "class Seen:\n"
        "    def __getattr__(self, name): return lambda *_: None\n"
        "    def on_step(self, record):\n"
        "        if record.step == 9: print('there', flush=True)\n"
        "train(config, Path(sys.argv[2]), Seen())\n"
    )
    runs = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(corpus), str(runs)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.kill()
    return next(path for path in runs.iterdir() if path.is_dir())


def button(window: MainWindow, name: str) -> QPushButton:
    found = window.findChild(QPushButton, name)
    assert found is not None
    return found


def told(window: MainWindow) -> str:
    return "\n".join(label.text() for label in window.monitor.empty.findChildren(QLabel))


async def offered(window: MainWindow) -> None:
    window.runs.look_for_interrupted()
    await until(lambda: "was interrupted" in told(window), "the offer")


def test_after_a_kill_the_first_view_offers_the_run_and_resume_goes_on(
    make_window: MakeWindow, run_async: RunAsync, killed: Path
) -> None:
    assert RunFolder(killed).shown_state() == "interrupted"
    window = make_window(folder=killed.parent)

    async def go() -> None:
        await offered(window)
        assert "“killed” was interrupted" in told(window)
        assert "No run yet" not in told(window)
        window.next_run.use_demo()
        assert "“killed” was interrupted" in told(window), "another corpus takes no offer away"
        assert button(window, "resume_offered").isVisible()
        button(window, "resume_offered").click()
        await until(lambda: window.controller.active, "the resumed run")
        before = window.monitor.newest
        await until(lambda: window.monitor.newest > before, "a batch of the resumed run")
        window.controller.stop()
        await until(lambda: not window.controller.active, "its end")

    run_async(go())
    assert window.controller.snapshot().state is RunState.FINISHED
    assert window.windowTitle() == "killed – SignScope"
    assert RunFolder(killed).shown_state() == "stopped"


def test_an_interrupted_run_can_be_shown_alone(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    path = make_run(tmp_path / "runs", "cut off", steps=7, state="running")
    window = make_window(folder=path.parent)

    async def go() -> None:
        await offered(window)
        assert "after 7 batches" in told(window)
        assert not button(window, "resume_offered").isVisible(), "it has no checkpoint"
        button(window, "open_offered").click()
        await until(lambda: window.presenter.source is not None, "the run")

    run_async(go())
    assert window.windowTitle() == "cut off – SignScope"
    assert window.monitor.newest == 6
    assert not window.controller.active


def test_a_run_that_ended_well_is_not_offered(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    make_run(runs, "older", state="running", created=1.0)
    make_run(runs, "newest", state="finished", created=2.0)
    window = make_window(folder=runs)

    async def go() -> None:
        await window.runs._look_for_interrupted()

    run_async(go())
    assert told(window).startswith("No run yet")
    assert not button(window, "open_offered").isVisible()


def test_a_reopened_run_shows_its_checkpoints_and_pauses(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    corpus = tiny_corpus(tmp_path)
    config = tiny_config(corpus, name="reopened", checkpoint={"every_batches": 3})
    control = started_control()
    pauses = Recorder(lambda record: control.apply(RunEvent.PAUSE) if record.step == 4 else None)

    def go_on() -> None:
        control.wait_for(RunState.PAUSED, timeout_s=60)
        control.apply(RunEvent.RESUME)

    helper = threading.Thread(target=go_on)
    helper.start()
    path = train(config, tmp_path / "runs", pauses, control=control).run_path
    helper.join()
    window = make_window(folder=path.parent)

    async def go() -> None:
        window.runs.open_run(path)
        await until(lambda: window.presenter.source is not None, "the run")

    run_async(go())
    history = window.monitor.history
    _, marked = window.monitor.marks.between(history, 0, len(history) - 1)
    kinds = [each.kind.value for each in marked]
    assert kinds.count("checkpoint") == 3
    assert "paused" in kinds
    assert "resumed" in kinds


PROGRAM = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QLabel
import app.application as application

class Watched(application.MainWindow):
    def __init__(self, **parts):
        super().__init__(**parts)
        self.refreshed = 0
        self.next_run.corpus_shown.connect(self.count)
        self.timer = QTimer(self, interval=20)
        self.timer.timeout.connect(self.look)
        self.timer.start()
    def count(self, _corpus):
        self.refreshed += 1
    def look(self):
        told = ' '.join(label.text() for label in self.monitor.empty.findChildren(QLabel))
        shown = self.presenter.source is not None or 'interrupted' in told
        if shown and self.refreshed and 'torch' in sys.modules:
            print(self.windowTitle() if self.presenter.source else told)
            self.timer.stop()
            self.close_unattended()

application.MainWindow = Watched
run = Path(sys.argv[1]) if len(sys.argv) > 1 else None
sys.exit(application.run_application(application.WindowOptions(run=run)))
"""


def start_program(runs: Path, *arguments: str) -> str:
    """Start the real program, let it come to rest, and give what it shows."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={
            **os.environ,
            "QT_QPA_PLATFORM": "offscreen",
            "PYTHONPATH": str(REPOSITORY),
            "SIGNSCOPE_RUNS": str(runs),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_window_started_with_a_run_is_called_as_the_run(tmp_path: Path) -> None:
    path = make_run(tmp_path / "runs", "given by name", steps=7)
    assert start_program(path.parent, str(path)) == "given by name – SignScope\n"


def test_the_next_start_after_a_kill_says_so_by_itself(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "cut off", steps=7, state="running")
    told = start_program(tmp_path / "runs")
    assert "“cut off” was interrupted" in told
    assert "No run yet" not in told
