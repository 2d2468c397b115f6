"""Fixtures of the window's tests: a theme, made-up records, and windows that end with their test."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import qasync
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.garbage import GarbageCollector
from app.main_window import MainWindow
from app.settings import WindowSettings
from app.theme import Theme, ThemeChoice
from app.training.config_form import ConfigForm
from app.training.live_run import BUFFER_CAPACITY
from app.training.run_controller import RunController, RunJob, train
from core.training.imports import import_training
from signscope.paths import runs_dir

MakeWindow = Callable[..., MainWindow]
RunAsync = Callable[[Coroutine[Any, Any, Any]], Any]


def setting(form: ConfigForm, name: str) -> QWidget:
    """Give the field of a dotted setting."""
    found = form.findChild(QWidget, f"setting.{name}")
    assert found is not None, name
    return found


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """Import what training needs before any limit of a test runs."""
    import_training()


@pytest.fixture(scope="session", autouse=True)
def garbage(qapp: QApplication, imported: None) -> Iterator[None]:
    """Collect in the GUI thread alone, as the program does."""
    collector = GarbageCollector()
    collector.settle()
    yield
    collector.stop()


@pytest.fixture(scope="session")
def theme(qapp: QApplication) -> Theme:
    return Theme(qapp, ThemeChoice.LIGHT)


@pytest.fixture
def make_controller(qapp: QApplication) -> Iterator[Callable[..., RunController]]:
    """Make controllers whose runs are over when the test is."""
    made: list[RunController] = []

    def make(job: RunJob = train, *, capacity: int = BUFFER_CAPACITY) -> RunController:
        made.append(RunController(job=job, capacity=capacity))
        return made[-1]

    yield make
    for controller in made:
        assert controller.shutdown(30), "the trainer thread did not end"


@pytest.fixture
def make_window(
    qtbot: QtBot, theme: Theme, make_controller: Callable[..., RunController]
) -> Iterator[MakeWindow]:
    """Make main windows on a job (the real trainer when none is given), shown and exposed."""
    made: list[MainWindow] = []

    def make(
        job: RunJob = train, *, folder: Path | None = None, capacity: int = BUFFER_CAPACITY
    ) -> MainWindow:
        window = MainWindow(
            theme=theme,
            settings=WindowSettings(),
            controller=make_controller(job, capacity=capacity),
            camera=QWidget(),
            runs_dir=folder or runs_dir(),
        )
        made.append(window)
        with qtbot.waitExposed(window):
            window.show()
        return window

    yield make
    for window in made:
        assert window.controller.shutdown(30)
        window.leave()
        window.deleteLater()


@pytest.fixture
def run_async(qapp: QApplication) -> Iterator[RunAsync]:
    """Run a coroutine in the loop that the program runs in; the loop is closed afterwards."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=lambda: qasync.QEventLoop(qapp)) as runner:
            return runner.run(coroutine)

    yield run
    # The loop's timer is part of a reference cycle: it must not be collected in some other thread.
    gc.collect()
