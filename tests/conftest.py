"""What every test starts with: no screen, folders of its own, and a check that nothing was left running."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before the first import of Qt, which reads them when the application object is made.
os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ.setdefault("QT_LOGGING_RULES", "qt.qpa.*=false")
os.environ.pop("DISPLAY", None)
os.environ.pop("WAYLAND_DISPLAY", None)

import hypothesis
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QThread
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import Shiboken

# Machines differ in speed, and the first example pays for imports: time is not what these tests prove.
hypothesis.settings.register_profile("signscope", deadline=None)
hypothesis.settings.load_profile("signscope")

REPOSITORY = Path(__file__).resolve().parent.parent
LEAK_WAIT_S = float(os.environ.get("SIGNSCOPE_LEAK_WAIT_S", "5"))
"""How long a thread that was told to stop may take after its test."""

EXPECTED_SKIPS = ("real_data", "cuda")
"""Markers whose tests may be skipped in a strict run: what they need cannot be installed."""


def strict_run() -> bool:
    """Whether a skip that ``make test`` could have prevented is a failure."""
    return os.environ.get("CI") == "true" or os.environ.get("SIGNSCOPE_STRICT") == "1"


def find_real_data() -> Path | None:
    """Give the folder of real landmarks and video, or None where there is none."""
    chosen = os.environ.get("SIGNSCOPE_DATA")
    folder = Path(chosen) if chosen else REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def missing_models() -> str:
    """Say which required landmark models are not verified in the cache; empty when all are."""
    from core.landmarks import models

    return ", ".join(models.missing_models())


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# ---------------------------------------------------------------- which tests run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave soak tests to ``make soak``; they are deselected, not skipped."""
    if "soak" in str(config.getoption("markexpr")):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip by name what cannot run here; a strict run fails where the models should have been."""
    if item.get_closest_marker("real_data") and find_real_data() is None:
        pytest.skip("real_data: no folder SIGNSCOPE_DATA or ../shared/data")
    if item.get_closest_marker("models") and (missing := missing_models()):
        text = f"models: not in the cache: {missing}; `python main.py models --fetch` brings them"
        if strict_run():
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    if item.get_closest_marker("cuda") and not has_cuda():
        pytest.skip("cuda: no NVIDIA GPU that torch can use")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn an unexpected skip into a failure in a strict run."""
    report = yield
    expected = any(item.get_closest_marker(name) for name in EXPECTED_SKIPS)
    if report.skipped and not hasattr(report, "wasxfail") and strict_run() and not expected:
        report.outcome = "failed"
        report.longrepr = f"skipped without being allowed to: {report.longrepr}"
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Refuse whole modules that skip themselves: nobody would see which tests are gone."""
    if report.skipped and strict_run():
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} skipped itself: {report.longrepr}"


# ---------------------------------------------------------------- what a test is given


@pytest.fixture
def real_data_dir() -> Path:
    """Folder of real landmarks and video; its tests carry the marker real_data."""
    folder = find_real_data()
    if folder is None:
        pytest.skip("real_data: no folder SIGNSCOPE_DATA or ../shared/data")
    return folder


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, corpora and window settings of this test alone; the landmark models stay shared."""
    monkeypatch.setenv("SIGNSCOPE_RUNS", str(tmp_path / "own" / "runs"))
    monkeypatch.setenv("SIGNSCOPE_CORPORA", str(tmp_path / "own" / "corpora"))
    monkeypatch.setenv("SIGNSCOPE_SETTINGS", str(tmp_path / "own" / "settings.ini"))


# ---------------------------------------------------------------- what a test may not leave


@pytest.fixture(autouse=True)
def no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that leaves a Python thread running, naming it and the line that started it."""
    started_at: dict[int, str] = {}
    start = threading.Thread.start

    def start_and_remember(thread: threading.Thread) -> None:
        stack = traceback.extract_stack(limit=12)[:-1]
        ours = [frame for frame in stack if str(REPOSITORY) in frame.filename] or stack
        inner = [frame for frame in ours if ".venv" not in frame.filename] or ours
        started_at[id(thread)] = f"{inner[-1].filename}:{inner[-1].lineno}"
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_and_remember)
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not isinstance(thread, threading._DummyThread)
    ]
    limit = time.monotonic() + LEAK_WAIT_S
    for thread in left:
        with contextlib.suppress(RuntimeError):
            thread.join(max(0.0, limit - time.monotonic()))
    names = [
        f"{thread.name} (started at {started_at.get(id(thread), 'an unknown line')})"
        for thread in left
        if thread.is_alive()
    ]
    assert not names, f"threads left running: {', '.join(names)}"


@pytest.fixture(autouse=True)
def no_qt_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a QThread running or a top-level widget alive, naming it."""
    if not {"qapp", "qtbot"} & set(request.fixturenames):
        yield
        return
    # Kept by identity of the C++ object: a wrapper may be made anew for the same widget.
    before = {Shiboken.getCppPointer(widget) for widget in QApplication.topLevelWidgets()}
    yield
    running = [_name(thread) for thread in _running_qthreads()]
    assert not running, f"QThreads left running: {', '.join(running)}"
    left = _widgets_left(before)
    if left:
        del left
        # Widgets held only by reference cycles (the menus of plots) go with the collector.
        gc.collect()
        left = _widgets_left(before)
    names = [_name(widget) for widget in left]
    for widget in left:
        widget.close()
        widget.deleteLater()
    assert not names, f"top-level widgets left alive: {', '.join(names)}"


def _running_qthreads() -> list[QThread]:
    """QThreads of Python that still run after the wait that every owner allows itself."""
    threads = [item for item in Shiboken.getAllValidWrappers() if isinstance(item, QThread)]
    limit = time.monotonic() + LEAK_WAIT_S
    main = QCoreApplication.instance()
    own = main.thread() if main is not None else None
    return [
        thread
        for thread in threads
        if thread is not own
        and thread.isRunning()
        and not thread.wait(max(0, int(1000 * (limit - time.monotonic()))))
    ]


def _widgets_left(before: set[tuple[int, ...]]) -> list[QWidget]:
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    QCoreApplication.processEvents()
    return [
        widget
        for widget in QApplication.topLevelWidgets()
        if Shiboken.getCppPointer(widget) not in before
    ]


def _name(item: QThread | QWidget) -> str:
    return f"{type(item).__module__}.{type(item).__qualname__} {item.objectName()!r}"
