"""The owner of the trainer thread: states, order of announcements, errors, restarts, shutdown."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QThread
from pytestqt.qtbot import QtBot

from app.training.live_run import LiveRun, RunRequest
from app.training.run_controller import (
    RunController,
    RunJob,
)
from core.config import RunConfig
from core.errors import CorpusError
from core.training.session import RunResult
from signscope.errors import SignScopeError
from signscope.reader import LedgerReader
from signscope.records import EventKind, RunEventRecord, StepRecord, TrainingObserver
from signscope.run_state import RunControl, RunEvent, RunSnapshot, RunState
from tests.tiny_run import BATCHES_PER_EPOCH, tiny_config, tiny_corpus
from tests.ui.made_runs import MadeJob, step_record

MakeController = Callable[..., RunController]
REQUEST = RunRequest(RunConfig(), Path("runs"))
LIMIT_MS = 20_000


def wait_for_state(qtbot: QtBot, controller: RunController, state: RunState) -> None:
    qtbot.waitUntil(lambda: controller.snapshot().state is state, timeout=LIMIT_MS)


def batches(run: LiveRun) -> list[StepRecord]:
    return [record for record in run.news() if isinstance(record, StepRecord)]


def test_requests_are_refused_where_the_table_has_no_transition(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    controller = make_controller(MadeJob())
    assert not controller.pause()
    assert not controller.resume()
    assert not controller.stop()
    assert controller.start(REQUEST)
    assert not controller.start(REQUEST), "one run at a time"
    assert controller.stop()
    assert not controller.resume()
    wait_for_state(qtbot, controller, RunState.FINISHED)


def test_pause_and_resume(make_controller: MakeController, qtbot: QtBot) -> None:
    controller = make_controller(MadeJob())
    controller.start(REQUEST)
    assert controller.toggle_pause()
    wait_for_state(qtbot, controller, RunState.PAUSED)
    assert controller.toggle_pause()
    wait_for_state(qtbot, controller, RunState.RUNNING)
    assert controller.pause()
    wait_for_state(qtbot, controller, RunState.PAUSED)
    controller.stop()
    wait_for_state(qtbot, controller, RunState.FINISHED)


def test_a_state_is_announced_after_the_records_that_led_to_it(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    told: list[str] = []

    def pauses_itself(
        request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        observer.on_step(step_record(0))
        observer.on_event(RunEventRecord(1, EventKind.ALERT, "look at this", 0.0))
        control.apply(RunEvent.PAUSE)
        control.wait_while_paused()
        observer.on_step(step_record(1))
        return RunResult(Path("made"), "stopped", 2, 0, 0.5, 0.5)

    controller = make_controller(pauses_itself)

    def on_updated(run: LiveRun) -> None:
        told.extend(type(record).__name__ for record in run.news())

    def on_state(snapshot: RunSnapshot) -> None:
        told.append(snapshot.state.value)

    controller.updated.connect(on_updated)
    controller.state_changed.connect(on_state)
    controller.start(REQUEST)
    wait_for_state(qtbot, controller, RunState.PAUSED)
    controller.stop()
    wait_for_state(qtbot, controller, RunState.FINISHED)
    assert told.index("StepRecord") < told.index("RunEventRecord") < told.index("paused")
    # Whether the last batch comes before or after "stopping" is up to the worker.
    last_step = len(told) - 1 - told[::-1].index("StepRecord")
    assert told.index("paused") < last_step < told.index("finished")


def test_start_is_safe_in_the_slot_that_announces_the_end(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    controller = make_controller(MadeJob(3, endless=False))
    ends: list[RunState] = []

    def restart(snapshot: RunSnapshot) -> None:
        if not snapshot.state.active:
            assert not controller.active
            ends.append(snapshot.state)
            if len(ends) < 20:
                assert controller.start(REQUEST)

    controller.state_changed.connect(restart)
    assert controller.start(REQUEST)
    qtbot.waitUntil(lambda: len(ends) == 20, timeout=LIMIT_MS)
    assert set(ends) == {RunState.FINISHED}


@pytest.mark.parametrize("expected", [True, False])
def test_an_error_ends_the_run_and_is_handed_on(
    make_controller: MakeController,
    qtbot: QtBot,
    capsys: pytest.CaptureFixture[str],
    expected: bool,
) -> None:
    explained = CorpusError("The corpus is gone", subject="/corpus", hint="Open another.")

    def fails(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        observer.on_step(step_record(0))
        raise explained if expected else ZeroDivisionError("oops")

    controller = make_controller(fails)
    states: list[RunState] = []
    controller.state_changed.connect(lambda snapshot: states.append(snapshot.state))
    with qtbot.waitSignal(controller.failed, timeout=LIMIT_MS) as blocker:
        controller.start(REQUEST)
    assert states[-1] is RunState.FAILED
    assert not controller.active
    error = blocker.args[0]
    assert isinstance(error, SignScopeError)
    if expected:
        assert error is explained
    else:
        assert "ZeroDivisionError: oops" in error.what
        assert "test_run_controller.py" in error.subject, "it says where"
        assert error.hint
        assert "ZeroDivisionError" in capsys.readouterr().err
    assert controller.start(REQUEST), "a failed run does not bar the next one"


def test_updates_come_at_most_once_a_tick_and_lose_nothing(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    controller = make_controller(MadeJob(20_000, endless=False))
    updates: list[list[StepRecord]] = []
    controller.updated.connect(lambda run: updates.append(batches(run)))
    with qtbot.waitSignal(controller.ended, timeout=LIMIT_MS):
        controller.start(REQUEST)
    steps = [record.step for update in updates for record in update]
    assert steps == list(range(20_000))
    assert len(updates) < 2_000, "many records travel in one signal"


def test_shutdown_says_whether_the_thread_was_gone(
    make_controller: MakeController, qtbot: QtBot
) -> None:
    release = threading.Event()

    def stubborn(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        release.wait()
        return RunResult(Path("made"), "stopped", 0, 0, 0.5, 0.5)

    controller = make_controller(stubborn)
    assert controller.shutdown(0.0), "nothing runs"
    with qtbot.waitSignal(controller.prepared, timeout=LIMIT_MS):
        controller.start(REQUEST)
    assert not controller.shutdown(0.05)
    assert controller.active
    release.set()
    assert controller.shutdown(20)
    assert controller.snapshot().state is RunState.FINISHED
    assert not controller.active


def test_the_real_trainer_starts_pauses_resumes_stops_and_starts_again(
    make_controller: MakeController, qtbot: QtBot, tmp_path: Path
) -> None:
    config = tiny_config(tiny_corpus(tmp_path), optim={"epochs": 1000})
    controller = make_controller()
    threads: set[int] = set()
    steps: list[StepRecord] = []
    controller.updated.connect(lambda run: steps.extend(batches(run)))
    for turn in range(6):
        steps.clear()
        assert controller.start(RunRequest(config, tmp_path / "runs"))
        thread = controller.findChild(QThread, "trainer")
        assert thread is not None
        threads.add(id(thread))
        qtbot.waitUntil(lambda: len(steps) >= 2, timeout=LIMIT_MS)
        if turn % 2:
            assert controller.pause()
            wait_for_state(qtbot, controller, RunState.PAUSED)
            at_rest = len(steps)
            assert controller.resume()
            qtbot.waitUntil(
                lambda at_rest=at_rest: len(steps) > at_rest,  # type: ignore[misc]
                timeout=LIMIT_MS,
            )
        with qtbot.waitSignal(controller.ended, timeout=LIMIT_MS) as blocker:
            assert controller.stop()
        result: RunResult = blocker.args[0]
        assert result.state == "stopped"
        with LedgerReader(result.run_path / "ledger.sqlite") as reader:
            assert reader.counts().batches == result.steps == len(steps)
    assert len(list((tmp_path / "runs").iterdir())) == 6


def test_the_real_trainer_finishes(
    make_controller: MakeController, qtbot: QtBot, tmp_path: Path
) -> None:
    controller = make_controller()
    steps: list[StepRecord] = []
    controller.updated.connect(lambda run: steps.extend(batches(run)))
    with qtbot.waitSignal(controller.ended, timeout=LIMIT_MS) as blocker:
        controller.start(RunRequest(tiny_config(tiny_corpus(tmp_path)), tmp_path / "runs"))
    assert blocker.args[0].state == "finished"
    assert len(steps) == 2 * BATCHES_PER_EPOCH
    assert controller.snapshot().state is RunState.FINISHED


def test_a_corpus_truncated_while_training_fails_the_run_and_the_window_goes_on(
    make_controller: MakeController, qtbot: QtBot, tmp_path: Path
) -> None:
    controller = make_controller()
    corpus, runs = tiny_corpus(tmp_path), tmp_path / "runs"
    steps: list[StepRecord] = []
    controller.updated.connect(lambda run: steps.extend(batches(run)))
    with qtbot.waitSignal(controller.failed, timeout=LIMIT_MS) as blocker:
        controller.start(RunRequest(tiny_config(corpus, optim={"epochs": 1000}), runs))
        qtbot.waitUntil(lambda: bool(steps), timeout=LIMIT_MS)
        (shard,) = corpus.glob("shard-*")
        os.truncate(shard, 1000)
    assert isinstance(blocker.args[0], CorpusError)
    assert "has 1000 bytes, expected" in blocker.args[0].what
    assert controller.snapshot().state is RunState.FAILED
    (tmp_path / "other").mkdir()
    with qtbot.waitSignal(controller.ended, timeout=LIMIT_MS):
        controller.start(RunRequest(tiny_config(tiny_corpus(tmp_path / "other")), runs))


def test_a_job_is_any_callable() -> None:
    job: RunJob = MadeJob()
    assert callable(job)
