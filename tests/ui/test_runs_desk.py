"""The Runs menu in the real window: open, resume, compare, replay and export runs of the real trainer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel, QMessageBox

from app.main_window import MainWindow
from app.messages import MessageBar
from app.runs.export_dialog import ExportDialog
from app.runs.replay_controller import ObserverFactory, ReplayRequest
from core.training.replay import ReplayResult
from signscope.folder import RunFolder
from signscope.run_state import RunControl
from tests.tiny_run import (
    BATCHES_PER_EPOCH,
    ledger_losses,
    started_control,
    stop_after,
    tiny_config,
    tiny_corpus,
    train,
)
from tests.ui.conftest import MakeWindow, RunAsync
from tests.ui.made_runs import MadeJob
from tests.ui.run_folders import make_run, press, until
from tests.unit.made_records import make_step, non_finite_step

InWindow = Callable[..., None]


@pytest.fixture
def in_window(make_window: MakeWindow, run_async: RunAsync, tmp_path: Path) -> InWindow:
    """Do something in a window within the program's event loop; the window is left at the end."""

    def do(scenario: Callable[[MainWindow], Awaitable[None]], **options: object) -> None:
        window = make_window(folder=tmp_path / "runs", **options)

        async def whole() -> None:
            try:
                await scenario(window)
            finally:
                assert window.controller.shutdown(30)
                assert window.runs.shutdown(30)
                for dialog in (window.runs._browser, window.runs._comparison, window.runs._replay):
                    if dialog is not None:
                        dialog.close()
                await asyncio.sleep(0)

        run_async(whole())

    return do


def label(window: MainWindow, name: str) -> QLabel:
    found = window.findChild(QLabel, name)
    assert found is not None, name
    return found


def told(window: MainWindow) -> str:
    bar: MessageBar = window.messages
    return bar.text()


def test_a_finished_run_opens_whole(in_window: InWindow, tmp_path: Path) -> None:
    steps = [make_step(i) for i in range(40)] + [non_finite_step(40)]
    path = make_run(tmp_path / "runs", "seen again", steps=steps)

    async def open_it(window: MainWindow) -> None:
        window.runs.open_run(path)
        await until(lambda: window.monitor.newest == 40, "the curves")
        assert window.monitor.loss.curves["loss"].points == 40
        first, last = window.monitor.loss.view.viewRange()[0]
        assert first <= 0 < 40 <= last
        assert label(window, "health").text() == "applied 40/41, clipped 40, non-finite 1"
        assert "Batch 0: loss=90.00" in window.log.text()
        assert "seen again" in told(window)
        assert "seen again" in window.windowTitle()
        assert label(window, "synthetic_data").isVisible()
        assert window.runs.shown_run == path

    in_window(open_it)


def test_a_run_that_cannot_be_read_is_told(in_window: InWindow, tmp_path: Path) -> None:
    async def open_it(window: MainWindow) -> None:
        window.runs.open_run(tmp_path / "nothing here")
        await until(lambda: told(window), "a message")
        assert "nothing here" in told(window)
        assert window.runs.shown_run is None

    in_window(open_it)


def test_the_run_in_progress_stays_in_sight(in_window: InWindow, tmp_path: Path) -> None:
    path = make_run(tmp_path / "runs", "another")

    async def open_it(window: MainWindow) -> None:
        window.start_run()
        await until(lambda: window.monitor.newest == 24, "the run")
        window.runs.open_run(path)
        assert "run in progress" in told(window)
        window.runs.resume_run(path)
        assert "cannot be resumed now" in told(window)
        assert window.monitor.newest == 24
        assert "training run is in progress" in window.runs.replay()._refusal()

    in_window(open_it, job=MadeJob(25))


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Path, Path]:
    """A run stopped in its first epoch, and the same run never interrupted."""
    config = tiny_config(tiny_corpus(tmp_path), optim={"epochs": 2})
    whole = train(config, tmp_path / "whole").run_path
    control = started_control()
    part = train(config, tmp_path / "runs", stop_after(control, 5), control=control).run_path
    assert RunFolder(part).read_info().state == "stopped"
    return part, whole


def test_resume_goes_on_where_it_stopped(in_window: InWindow, stopped: tuple[Path, Path]) -> None:
    part, whole = stopped

    async def resume(window: MainWindow) -> None:
        browser = window.runs.browse()
        await until(lambda: browser._read_once, "the list")
        browser.choose(part)
        assert browser.actions_["resume"].isEnabled()
        browser.actions_["resume"].trigger()
        await until(lambda: window.controller.active, "the run", 60)
        assert not browser.isVisible()
        await until(lambda: not window.controller.active, "the end of the run", 120)
        batches = 2 * BATCHES_PER_EPOCH
        # The batches of before the stop are shown too, and counted.
        assert window.monitor.history.column("step").tolist() == list(range(batches))
        assert f"applied {batches}/{batches}" in label(window, "health").text()
        assert window.runs.shown_run == part

    in_window(resume)
    assert ledger_losses(part) == ledger_losses(whole)


def question(window: MainWindow) -> QMessageBox | None:
    return window.findChild(QMessageBox, "confirm_changed")


@pytest.mark.parametrize("answer", ["Leave it", "Resume anyway"])
def test_a_change_is_said_before_resuming(
    in_window: InWindow, stopped: tuple[Path, Path], answer: str
) -> None:
    part, _whole = stopped
    text = RunFolder(part).config_path.read_text(encoding="utf-8")
    assert "weight_decay = 0.01" in text
    RunFolder(part).config_path.write_text(
        text.replace("weight_decay = 0.01", "weight_decay = 0.02")
    )
    before = ledger_losses(part)

    async def resume(window: MainWindow) -> None:
        window.runs.resume_run(part)
        await until(lambda: question(window) is not None, "the question", 60)
        box = question(window)
        assert box is not None
        assert "weight_decay" in box.informativeText()
        assert ledger_losses(part) == before  # nothing was touched
        await press(box, answer)
        await until(lambda: question(window) is None, "the end of the question")
        if answer == "Resume anyway":
            await until(lambda: window.monitor.newest == 2 * BATCHES_PER_EPOCH - 1, "the run", 120)
            await until(lambda: not window.controller.active, "the end of the run", 60)

    in_window(resume)
    assert RunFolder(part).read_info().state == (
        "finished" if answer == "Resume anyway" else "stopped"
    )


def endless_replay(
    request: ReplayRequest, control: RunControl, observers_for: ObserverFactory
) -> ReplayResult:
    while not control.wants_stop():
        threading.Event().wait(0.001)
    return ReplayResult(request.corpus, request.seed, {})


def test_no_run_starts_beside_a_replay(in_window: InWindow) -> None:
    async def start(window: MainWindow) -> None:
        window.runs._replays._job = endless_replay
        dialog = window.runs.replay()
        assert dialog.start()
        assert not window.start_run()
        assert not window.controller.active
        assert "replay is in progress" in told(window)
        assert window.runs.replaying
        for answer, leaves in (("Keep running", False), ("Stop and close", True)):
            leaving = asyncio.create_task(window.runs.confirm_leaving())
            await until(lambda: window.findChild(QMessageBox, "confirm_leaving"), "the question")
            box = window.findChild(QMessageBox, "confirm_leaving")
            assert box is not None
            await press(box, answer)
            assert await leaving is leaves
            await until(lambda: window.findChild(QMessageBox, "confirm_leaving") is None, "its end")
        # Leaving ends the replay: the fixture would fail on a thread left running.

    in_window(start)


def test_compare_begins_with_what_is_chosen(in_window: InWindow, tmp_path: Path) -> None:
    a, b, c = (make_run(tmp_path / "runs", name, steps=4) for name in "abc")

    async def compare(window: MainWindow) -> None:
        window.runs.open_run(a)
        await until(lambda: window.runs.shown_run == a, "the run")
        dialog = window.runs.compare()
        await until(lambda: not dialog.busy, "the runs")
        assert [run.summary.path for run in dialog.runs] == [a]
        assert window.runs.compare_runs((b, c)) is dialog
        await until(lambda: not dialog.busy, "the runs")
        assert [run.summary.path for run in dialog.runs] == [b, c]

    in_window(compare)


def export_dialog(window: MainWindow) -> ExportDialog | None:
    return window.findChild(ExportDialog)


def test_export_offers_the_plots_of_the_run_shown_only(in_window: InWindow, tmp_path: Path) -> None:
    shown, other = (make_run(tmp_path / "runs", name, steps=4) for name in ("shown", "other"))

    async def export(window: MainWindow) -> None:
        window.runs.export()
        assert "no run to export" in told(window)
        assert "…." not in told(window)
        window.runs.open_run(shown)
        await until(lambda: window.runs.shown_run == shown, "the run")
        window.actions_["run.export"].trigger()
        dialog = export_dialog(window)
        assert dialog is not None
        assert dialog.kind == "png"
        assert dialog.target.parent == shown, "proposed beside corpora"
        dialog.set_target(str(tmp_path / "plots.png"))
        dialog.export()
        await until(lambda: not dialog.busy, "the picture")
        assert dialog.messages.text() == ""
        assert window.monitor.plots_view.width() == window.monitor.width(), "not put back"
        dialog.close()
        assert window.runs.export_run(other).kind == "csv"

    in_window(export)
    assert (tmp_path / "plots.png").stat().st_size > 5000


def test_themes_reach_every_dialog(in_window: InWindow, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "a")

    async def recolor(window: MainWindow) -> None:
        browser, dialog = window.runs.browse(), window.runs.replay()
        await until(lambda: browser._read_once, "the list")
        window.actions_["theme.dark"].trigger()
        try:
            assert browser.model._colors.dark
            assert dialog.plots._colors.dark
        finally:
            window.actions_["theme.light"].trigger()

    in_window(recolor)


def refuses_to_run(request: object, control: RunControl, observer: object) -> None:
    raise AssertionError("both began")


def test_a_replay_that_starts_while_a_run_is_opened_keeps_the_run_from_resuming(
    in_window: InWindow, tmp_path: Path
) -> None:
    path = make_run(tmp_path / "runs", "to be resumed")

    async def both(window: MainWindow) -> None:
        window.runs._replays._job = endless_replay
        window.runs.resume_run(path)
        assert window.runs.replay().start(), "nothing was in progress yet"
        await until(lambda: "replay is in progress" in told(window), "the refusal")
        assert not window.controller.active
        assert window.runs.replaying

    in_window(both, job=refuses_to_run)


def test_of_a_run_and_a_replay_asked_for_at_once_the_first_begins(in_window: InWindow) -> None:
    async def run_first(window: MainWindow) -> None:
        window.runs._replays._job = refuses_to_run  # type: ignore[assignment]
        assert window.start_run()
        assert not window.runs.replay().start()
        assert not window.runs.replaying

    async def replay_first(window: MainWindow) -> None:
        window.runs._replays._job = endless_replay
        assert window.runs.replay().start()
        assert not window.start_run()
        assert not window.controller.active

    in_window(run_first, job=MadeJob(25))
    in_window(replay_first, job=refuses_to_run)
