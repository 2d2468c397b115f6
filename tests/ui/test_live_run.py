"""A window that was too slow: what the buffer let go comes from the ledger, and nothing else is let go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from app.main_window import MainWindow
from app.monitor.log_view import LINES_PER_FLUSH
from app.training.live_run import BatchesLost, LiveRun, Record, RunRequest
from core.config import RunConfig
from core.training.session import RunResult
from signscope.folder import RunFolder
from signscope.ledger import Ledger
from signscope.records import (
    EpochRecord,
    EventKind,
    Outcome,
    RunEventRecord,
    StepRecord,
    TrainingObserver,
)
from signscope.run_state import RunControl, RunSnapshot, RunState
from tests.ui.conftest import MakeWindow, RunAsync
from tests.ui.made_runs import BATCHES, bad_step, epoch_record, step_record
from tests.ui.run_folders import until

CAPACITY = 8


def live_run(capacity: int = CAPACITY) -> LiveRun:
    return LiveRun(
        RunRequest(RunConfig(), Path("runs")), lambda: RunSnapshot(RunState.RUNNING), capacity
    )


def short(records: Sequence[Record]) -> list[int | str]:
    return [
        record.step if isinstance(record, StepRecord) else type(record).__name__
        for record in records
    ]


def test_records_come_in_the_order_they_happened() -> None:
    run = live_run()
    run.on_run(2, 3)
    for step in range(3):
        run.on_step(step_record(step))
    run.on_epoch(epoch_record(1))
    run.on_step(step_record(3))
    assert short(run.news()) == ["RunPlan", 0, 1, 2, "EpochRecord", 3]
    assert not run.has_news
    assert run.plan is not None
    assert run.plan.batches == 6


def test_what_was_let_go_comes_before_what_was_not() -> None:
    run = live_run()
    for step in range(20):
        run.on_step(step_record(step))
        if step == 5:
            run.on_epoch(epoch_record(1))
    assert short(run.news()) == []
    assert run.missing == range(12)
    run.fill([step_record(step) for step in range(7)])
    assert short(run.news()) == [0, 1, 2, 3, 4, 5, "EpochRecord", 6]
    for step in range(20, 40):  # more is let go while the first is read
        run.on_step(step_record(step))
    run.fill([step_record(step) for step in range(7, 12)])
    assert short(run.news()) == list(range(7, 20))
    assert short(run.news()) == []
    assert run.missing == range(20, 32)
    run.fill([step_record(step) for step in range(20, 32)])
    assert short(run.news()) == list(range(20, 40))


def test_a_resumed_run_misses_only_its_own_batches() -> None:
    run = live_run()
    for step in range(100, 120):
        run.on_step(step_record(step))
    run.news()
    assert run.missing == range(100, 112)


def test_an_alert_does_not_wait_for_batches_that_are_missing() -> None:
    run = live_run()
    for step in range(20):
        run.on_step(step_record(step))
    run.on_epoch(epoch_record(1))
    run.on_event(RunEventRecord(20, EventKind.ALERT, "the disk is full", 0.0))
    assert short(run.news()) == ["RunEventRecord"]
    run.fill([step_record(step) for step in range(12)])
    assert short(run.news()) == [*range(20), "EpochRecord"]


def test_batches_that_are_nowhere_are_counted() -> None:
    run = live_run()
    for step in range(20):
        run.on_step(step_record(step))
    run.news()
    run.give_up()
    first, *rest = run.news()
    assert first == BatchesLost(12)
    assert short(rest) == list(range(12, 20))


class Hurried:
    """Trains, with a ledger, far more than the window's buffer holds; waits where it is told to."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.steps = steps
        self.rushed = threading.Event()

    def __call__(
        self, request: RunRequest, control: RunControl, observer: TrainingObserver
    ) -> RunResult:
        run = RunFolder.create(self.folder, "hurried", state="running")
        with Ledger(run.ledger_path) as ledger:
            observer.on_run(self.steps // BATCHES, BATCHES)
            observer.on_folder(run.path)  # type: ignore[attr-defined]
            for step in range(self.steps):
                record = bad_step(step) if step % 7 == 3 else step_record(step)
                ledger.append(record)
                observer.on_step(record)
                if step % BATCHES == BATCHES - 1:
                    observer.on_epoch(epoch_record(step // BATCHES + 1))
                    observer.on_event(RunEventRecord(step + 1, EventKind.PAUSED, "rested", 0.0))
            self.rushed.set()
            control.wait_for(RunState.STOPPING, timeout_s=60)
        return RunResult(run.path, "finished", self.steps, 2, 0.4, 0.4)


def test_every_batch_is_shown_once_however_slow_the_window_is(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    job = Hurried(tmp_path / "runs", 40 * BATCHES)
    window: MainWindow = make_window(job, capacity=CAPACITY)

    async def go() -> None:
        assert window.start_run()
        job.rushed.wait()  # the GUI thread is blocked all the while
        await until(lambda: window.monitor.newest == job.steps - 1, "the newest batch")
        window.controller.stop()
        await until(lambda: not window.controller.active, "the end")

    run_async(go())
    history = window.monitor.history
    assert history.column("step").tolist() == list(range(job.steps))
    bad = len(range(3, job.steps, 7))
    assert history.outcomes()[Outcome.SKIPPED_NON_FINITE_GRADIENT] == bad
    assert window.status.text.startswith(f"applied {job.steps - bad}/{job.steps}, ")
    table = window.epochs.model
    epochs: list[EpochRecord] = [table.record(row) for row in range(table.rowCount())]
    assert [epoch.epoch for epoch in epochs] == list(range(1, 41))
    assert len(window.monitor.marks.events) == 40
    # A line for each batch, one for each epoch's beginning and end, one for each event: all counted.
    lines = job.steps + 3 * 40
    shown = [line for line in window.log.text().split("\n") if not line.startswith("…")]
    assert len(shown) + window.log.dropped == lines
    assert len(shown) >= LINES_PER_FLUSH
    assert shown[-3].startswith(f"  Batch {BATCHES - 1}: ")


def test_a_ledger_that_comes_late_is_waited_for(
    make_window: MakeWindow, run_async: RunAsync, tmp_path: Path
) -> None:
    """Rows may be on their way to the disk when the window asks for them."""
    late = threading.Event()

    def job(request: RunRequest, control: RunControl, observer: TrainingObserver) -> RunResult:
        run = RunFolder.create(tmp_path / "runs", "late", state="running")
        records = [step_record(step) for step in range(30)]
        observer.on_folder(run.path)  # type: ignore[attr-defined]
        for record in records:
            observer.on_step(record)
        late.wait(60)
        with Ledger(run.ledger_path) as ledger:
            for record in records:
                ledger.append(record)
        return RunResult(run.path, "finished", 30, 2, 0.4, 0.4)

    window: MainWindow = make_window(job, capacity=CAPACITY)

    async def go() -> None:
        assert window.start_run()
        await until(lambda: window.controller.run and window.controller.run.missing, "a gap")
        late.set()
        await until(lambda: window.monitor.newest == 29, "the newest batch")

    run_async(go())
    assert window.monitor.history.column("step").tolist() == list(range(30))
    assert window.log.dropped == 0
