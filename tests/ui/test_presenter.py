"""One run on the screen: no figure, mark, line or setting of another run stays beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel, QProgressBar
from pytestqt.qtbot import QtBot

from app.application import _until_left
from app.main_window import MainWindow
from app.runs.loading import load_run
from app.training.live_run import RunRequest
from app.training.run_controller import RunJob
from core.config import RunConfig, load_config
from core.errors import CorpusError
from core.training.imports import _importing
from core.training.session import RunResult
from signscope.folder import RunFolder
from signscope.ledger import Ledger
from signscope.records import Evaluation, EventKind, RunEventRecord, TrainingObserver, WordErrors
from signscope.run_state import RunControl, RunState
from tests.tiny_run import (
    BATCHES_PER_EPOCH,
    started_control,
    stop_after,
    tiny_config,
    tiny_corpus,
    train,
)
from tests.ui.conftest import MakeWindow, RunAsync
from tests.ui.made_runs import BATCHES, MadeJob, epoch_record, step_record
from tests.ui.run_folders import make_run, until

LIMIT_MS = 30_000
HELD_OUT = Evaluation("test", WordErrors(10, 5, 5, 100, 100), 4.0, 0.5, 20, 0.5)


def text(window: MainWindow, name: str) -> str:
    found = window.findChild(QLabel, name)
    assert found is not None, name
    return found.text() if not found.isHidden() else ""


def held_out_job(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
    """A run of two epochs with everything that a view shows of a run."""
    observer.on_run(2, BATCHES)
    observer.on_event(RunEventRecord(0, EventKind.STARTED, "Computing on cpu", 0.0))
    for step in range(2 * BATCHES):
        observer.on_step(step_record(step))
        if step % BATCHES == BATCHES - 1:
            observer.on_epoch(epoch_record(step // BATCHES + 1))
    observer.on_event(RunEventRecord(12, EventKind.RESUMED, "Resumed", 0.0))
    observer.on_test(HELD_OUT)
    return RunResult(Path("made"), "finished", 2 * BATCHES, 2, 0.4, HELD_OUT.errors.wer)


def test_nothing_of_a_finished_run_stays_when_another_is_opened(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    window = make_window(held_out_job)
    other = load_run(make_run(tmp_path / "runs", "the other", steps=7, state="stopped"))
    assert window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active, timeout=LIMIT_MS)
    assert text(window, "held_out") == "Held-out signers: WER=20.0% (S 10 D 5 I 5)"
    assert text(window, "run_state") == "Finished"
    assert (text(window, "epoch_progress_text"), text(window, "batch_progress_text")) == (
        "Epoch 2 of 2",
        "Batch 10 of 10",
    )
    window.presenter.open(other)
    assert text(window, "held_out") == ""
    assert text(window, "run_state") == "Stopped"
    assert text(window, "epoch_progress_text") == "Epoch 1"
    assert text(window, "batch_progress_text") == "Batch 7"
    assert text(window, "health").startswith("applied 7/7")
    assert window.epochs.model.rowCount() == 0
    assert window.monitor.newest == 6
    assert window.log.text() == "Epoch 1/2:\n  Batch 0: loss=90.00"
    assert window.windowTitle() == "the other – SignScope"
    assert window.runs.shown_run == other.folder


def test_nothing_of_a_finished_run_stays_when_a_new_one_starts(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    jobs: Iterator[RunJob] = iter([held_out_job, MadeJob(3)])
    window = make_window(lambda *what: next(jobs)(*what))
    assert window.start_run()
    qtbot.waitUntil(lambda: not window.controller.active, timeout=LIMIT_MS)
    assert window.start_run()
    assert text(window, "held_out") == ""
    assert text(window, "health") == "No batches yet"
    assert text(window, "epoch_progress_text") == "Getting ready…"
    assert window.epochs.model.rowCount() == 0
    assert (window.log.text(), window.log.dropped) == ("", 0)
    assert window.monitor.marks.events == []
    assert window.health.findings == ()
    qtbot.waitUntil(lambda: window.monitor.newest == 2, timeout=LIMIT_MS)
    assert text(window, "health").startswith("applied 3/3")


def test_the_clipping_line_goes_with_the_run_that_clipped(
    make_window: MakeWindow, tmp_path: Path
) -> None:
    window = make_window(held_out_job)
    clipped = load_run(make_run(tmp_path / "runs", "clipped", steps=7))
    folder = RunFolder.create(tmp_path / "runs", "not clipped", state="finished")
    with Ledger(folder.ledger_path, meta={"policy": "none"}) as ledger:
        ledger.append(step_record(0))
    window.presenter.open(clipped)
    assert "limit" in window.monitor.norms.lines
    free = load_run(folder.path)
    window.presenter.open(free)
    assert "limit" not in window.monitor.norms.lines
    assert window.presenter.begin(RunRequest(RunConfig(), tmp_path, resume=folder.path), free)
    assert "limit" not in window.monitor.norms.lines, "it goes on without clipping"


def test_what_is_chosen_for_the_next_run_leaves_the_run_shown_alone(
    make_window: MakeWindow, tmp_path: Path
) -> None:
    window = make_window(held_out_job)
    window.presenter.open(load_run(make_run(tmp_path / "runs", "shown", steps=7)))
    window.next_run.use_corpus(str(tiny_corpus(tmp_path)))
    assert window.windowTitle() == "shown – SignScope"
    assert window.monitor.newest == 6
    assert text(window, "synthetic_data") == "synthetic data"


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run stopped in its first epoch."""
    config = tiny_config(tiny_corpus(tmp_path), name="stopped", optim={"epochs": 2, "lr": 0.004})
    control = started_control()
    return train(config, tmp_path / "runs", stop_after(control, 5), control=control).run_path


def test_a_resumed_run_brings_its_own_settings(
    make_window: MakeWindow, run_async: RunAsync, stopped: Path, tmp_path: Path
) -> None:
    window = make_window(folder=tmp_path / "runs")
    former = tiny_config(tiny_corpus(tmp_path / "former"), optim={"epochs": 1, "lr": 0.001})
    window.next_run.show_config(former)

    async def go() -> None:
        assert window.start_run()
        await until(lambda: not window.controller.active, "the former run", 60)
        window.runs.resume_run(stopped)
        await until(lambda: window.controller.active, "the resumed run", 60)
        await until(lambda: not window.controller.active, "its end", 60)

    run_async(go())
    config = window.panel.form.check()
    assert config == load_config(RunFolder(stopped).config_path)
    assert window.panel.picker.corpus == str(tiny_corpus(tmp_path))
    assert window.windowTitle() == "stopped – SignScope"
    assert window.monitor.newest == 2 * BATCHES_PER_EPOCH - 1
    assert text(window, "epoch_progress_text") == "Epoch 2 of 2"


def test_what_a_resumed_run_makes_again_is_not_shown_twice(
    make_window: MakeWindow, run_async: RunAsync, stopped: Path, tmp_path: Path
) -> None:
    """The newest checkpoint is gone: epochs that the window has seen are trained anew."""
    window = make_window(folder=tmp_path / "runs")
    path = train(tiny_config(tiny_corpus(tmp_path)), tmp_path / "runs").run_path
    for newest in sorted((path / "checkpoints").glob("step-*.safetensors"))[-2:]:
        newest.unlink()

    async def go() -> None:
        window.runs.resume_run(path)
        await until(lambda: window.controller.active, "the resumed run", 60)
        await until(lambda: not window.controller.active, "its end", 60)

    run_async(go())
    shown = [window.epochs.model.record(row).epoch for row in range(window.epochs.model.rowCount())]
    assert shown == [1, 2]
    assert window.monitor.history.column("step").tolist() == list(range(2 * BATCHES_PER_EPOCH))


def test_a_failed_start_leaves_no_moving_bar(make_window: MakeWindow, qtbot: QtBot) -> None:
    window = make_window()
    window.next_run.show_config(tiny_config(Path("/nowhere/corpus")))
    assert window.start_run()
    assert text(window, "epoch_progress_text") == "Getting ready…"
    qtbot.waitUntil(lambda: window.messages.isVisible(), timeout=LIMIT_MS)
    assert "/nowhere/corpus" in window.messages.text()
    assert text(window, "run_state") == "Failed"
    assert moving_bars(window) == []
    assert not window.panel.findChild(QLabel, "epoch_progress_text").isVisible()  # type: ignore[union-attr]
    shown = " ".join(found.text() for found in window.monitor.findChildren(QLabel))
    assert "Preparing" not in shown
    assert "ended before its first batch" in shown


def test_a_run_that_fails_on_its_way_stays_in_sight_with_its_sentence(
    make_window: MakeWindow, qtbot: QtBot
) -> None:
    def fails(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        observer.on_run(50, BATCHES)
        for step in range(3):
            observer.on_step(step_record(step))
        raise CorpusError("The corpus became shorter", subject="/corpus", hint="Import it anew.")

    window = make_window(fails)
    assert window.start_run()
    qtbot.waitUntil(lambda: "Import it anew." in window.messages.text(), timeout=LIMIT_MS)
    assert text(window, "run_state") == "Failed"
    assert text(window, "batch_progress_text") == "Batch 3 of 10"
    assert moving_bars(window) == []
    assert window.monitor.newest == 2
    assert window.panel.editable
    assert window.start_run(), "the window goes on"


def moving_bars(window: MainWindow) -> list[str]:
    return [
        bar.objectName()
        for bar in window.findChildren(QProgressBar)
        if bar.isVisible() and bar.maximum() == 0
    ]


@pytest.fixture
def still_importing() -> Iterator[threading.Event]:
    """Another thread is importing what a start waits for, until the event is set."""
    imported, begun = threading.Event(), threading.Event()

    def hold() -> None:
        with _importing:
            begun.set()
            imported.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    yield imported
    imported.set()
    thread.join()


def getting_ready(make_window: MakeWindow, tmp_path: Path) -> MainWindow:
    window = make_window(folder=tmp_path / "runs")
    window.next_run.show_config(tiny_config(tiny_corpus(tmp_path)))
    assert window.start_run()
    assert text(window, "epoch_progress_text") == "Getting ready…"
    assert not window.start_run(), "pressed again"
    return window


def test_a_start_waits_for_the_imports_and_says_so(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path, still_importing: threading.Event
) -> None:
    window = getting_ready(make_window, tmp_path)
    qtbot.waitUntil(lambda: text(window, "run_state") == "Running", timeout=LIMIT_MS)
    assert text(window, "epoch_progress_text") == "Getting ready…"
    still_importing.set()
    qtbot.waitUntil(lambda: not window.controller.active, timeout=LIMIT_MS)
    assert text(window, "run_state") == "Finished"
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_stop_while_getting_ready_leaves_nothing_behind(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path, still_importing: threading.Event
) -> None:
    window = getting_ready(make_window, tmp_path)
    assert window.controller.stop()
    qtbot.waitUntil(lambda: text(window, "run_state") == "Stopping…", timeout=LIMIT_MS)
    still_importing.set()
    qtbot.waitUntil(lambda: not window.controller.active, timeout=LIMIT_MS)
    assert text(window, "run_state") == "Stopped"
    assert moving_bars(window) == []
    assert not (tmp_path / "runs").exists()
    assert window.start_run(), "and may start again"


def test_a_pause_while_getting_ready_rests_before_anything_is_done(
    make_window: MakeWindow, qtbot: QtBot, tmp_path: Path, still_importing: threading.Event
) -> None:
    window = getting_ready(make_window, tmp_path)
    assert window.controller.pause()
    still_importing.set()
    qtbot.waitUntil(lambda: text(window, "run_state") == "Paused", timeout=LIMIT_MS)
    assert moving_bars(window) == []
    assert not (tmp_path / "runs").exists()
    assert window.controller.resume()
    qtbot.waitUntil(lambda: not window.controller.active, timeout=LIMIT_MS)
    assert window.monitor.newest == 2 * BATCHES_PER_EPOCH - 1


def test_closing_while_getting_ready_stops_the_start(
    make_window: MakeWindow,
    run_async: RunAsync,
    tmp_path: Path,
    still_importing: threading.Event,
) -> None:
    window = getting_ready(make_window, tmp_path)

    async def go() -> None:
        leaving = asyncio.create_task(_until_left(window, window.controller))
        await asyncio.sleep(0)
        window.close_unattended()
        await until(lambda: window.controller.snapshot().state is RunState.STOPPING, "the stop")
        still_importing.set()
        await asyncio.wait_for(leaving, 30)

    run_async(go())
    assert not window.controller.active
    assert not (tmp_path / "runs").exists()
