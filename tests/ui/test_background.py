"""Work beside the window: its result, its errors, cancelling it, and what is left of it at the end."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication, QProgressDialog, QPushButton, QWidget
from pytestqt.qtbot import QtBot
from shiboken6 import Shiboken

from app.background import Progress, WorkCancelled, background, end_all, with_progress
from app.waiting import Tasks
from signscope.errors import SignScopeError
from tests.conftest import LEAK_WAIT_S
from tests.ui.conftest import RunAsync
from tests.ui.run_folders import until


class Endless:
    """Work that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self, progress: Progress) -> None:
        self.begun.set()
        try:
            while True:
                progress(1, 2)
        finally:
            self.ended.set()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Errors that reached the hook behind the dialog for unexpected errors."""
    errors: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: errors.append(error))
    return errors


@pytest.fixture
def owner(qapp: QApplication) -> Iterator[QWidget]:
    widget = QWidget()
    yield widget
    widget.deleteLater()


def test_the_result_is_awaited_while_the_window_lives(owner: QWidget, run_async: RunAsync) -> None:
    gui = threading.get_ident()

    async def scenario() -> None:
        told: list[tuple[int, int]] = []
        connected, at_work = threading.Event(), threading.Event()

        def work(progress: Progress) -> int:
            assert connected.wait(30)
            progress(1, 2)
            assert at_work.wait(30), "the window was frozen"
            progress(2, 2)
            return threading.get_ident()

        job = background(owner, work)
        job.progressed.connect(lambda done, total: told.append((done, total)))
        connected.set()
        asyncio.get_running_loop().call_soon(at_work.set)
        assert await job != gui
        assert told == [(1, 2), (2, 2)]

    run_async(scenario())


def test_an_error_is_raised_where_the_work_is_awaited(
    owner: QWidget, run_async: RunAsync, reported: list[BaseException]
) -> None:
    def work(_progress: Progress) -> None:
        raise SignScopeError("It broke", subject="this", hint="Mend it.")

    async def scenario() -> None:
        with pytest.raises(SignScopeError, match="It broke"):
            await background(owner, work)

    run_async(scenario())
    assert not reported


def test_an_error_that_nobody_awaits_is_not_lost(
    qtbot: QtBot, owner: QWidget, reported: list[BaseException]
) -> None:
    def work(_progress: Progress) -> None:
        raise ValueError("nobody looks")

    background(owner, work)
    qtbot.waitUntil(lambda: bool(reported), timeout=30_000)
    assert [str(error) for error in reported] == ["nobody looks"]


def test_an_error_waits_for_whoever_awaits_the_job_later(
    owner: QWidget, run_async: RunAsync, reported: list[BaseException]
) -> None:
    def work(_progress: Progress) -> None:
        raise ValueError("looked at later")

    async def scenario() -> None:
        job = background(owner, work)
        await until(lambda: job.over)
        with pytest.raises(ValueError, match="looked at later"):
            await job

    run_async(scenario())
    assert not reported


def test_a_slot_gets_the_result_without_a_coroutine(qtbot: QtBot, owner: QWidget) -> None:
    job = background(owner, lambda _: 42)
    with qtbot.waitSignal(job.finished, timeout=30_000):
        pass
    assert job.over
    assert job.result() == 42


def test_cancelling_ends_the_work(
    owner: QWidget, run_async: RunAsync, reported: list[BaseException]
) -> None:
    work = Endless()

    async def scenario() -> None:
        job = background(owner, work)
        job.cancel()
        with pytest.raises(WorkCancelled):
            await job

    run_async(scenario())
    assert not reported


def test_a_coroutine_that_is_cancelled_takes_its_work_with_it(
    owner: QWidget, run_async: RunAsync, reported: list[BaseException]
) -> None:
    work = Endless()

    async def wait_for(work: Endless) -> None:
        await background(owner, work)

    async def scenario() -> None:
        task = asyncio.create_task(wait_for(work))
        await until(work.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(work.ended.is_set, "the end of the work")

    run_async(scenario())
    assert not reported


def test_work_and_coroutines_end_with_their_owner(qapp: QApplication, run_async: RunAsync) -> None:
    parent = QObject()
    work = Endless()
    told: list[str] = []

    async def wait_for() -> None:
        try:
            await background(parent, work)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def scenario() -> None:
        tasks = Tasks(parent)
        tasks.start(wait_for())
        await until(work.begun.is_set)
        Shiboken.delete(parent)
        await until(lambda: told == ["cancelled"], "the end of the coroutine")
        await until(work.ended.is_set, "the end of the work")

    run_async(scenario())


def test_a_stuck_read_is_left_behind_at_the_end(owner: QWidget, tmp_path: Path) -> None:
    """As from a share that never answers: the rest ends, and what does not is named."""
    fifo = tmp_path / "stuck"
    os.mkfifo(fifo)
    begun = threading.Event()

    def read(_progress: Progress) -> None:
        begun.set()
        with fifo.open("rb") as file:
            file.read()

    work = Endless()
    background(owner, work, "obedient")
    background(owner, read, "stuck")
    assert begun.wait(30)
    assert end_all(0.2) == ("stuck",)
    assert work.ended.is_set()
    with fifo.open("wb"):
        pass  # lets the read end
    assert end_all(LEAK_WAIT_S) == ()


def test_cancel_in_the_progress_window_ends_the_work(owner: QWidget, run_async: RunAsync) -> None:
    async def scenario() -> None:
        work = Endless()
        task = asyncio.create_task(with_progress("Reading", "batches", owner, work))
        await until(work.begun.is_set)
        bar = owner.findChild(QProgressDialog, "work_progress")
        assert isinstance(bar, QProgressDialog)
        button = bar.findChild(QPushButton)
        assert isinstance(button, QPushButton)
        button.click()
        with pytest.raises(WorkCancelled):
            await asyncio.wait_for(task, 30)

    run_async(scenario())
