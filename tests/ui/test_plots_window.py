"""The plots within the window: a live run tells them its ledger and its events; pictures show all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from app.main_window import MainWindow
from app.monitor.batch_row import full_row
from app.runs.picture import save_picture
from app.theme import LIGHT
from app.training.live_run import RunRequest
from core.training.session import FolderObserver, RunResult
from signscope.folder import RunFolder
from signscope.ledger import Ledger, LedgerReader
from signscope.records import EventKind, RunEventRecord
from signscope.run_state import RunControl
from tests.ui.made_runs import BATCHES, bad_step, step_record

STEPS = 60


class LedgerJob:
    """A run that writes a ledger and tells where it is, then waits to be stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, _request: RunRequest, control: RunControl, observer: FolderObserver
    ) -> RunResult:
        assert isinstance(observer, FolderObserver)
        with Ledger(RunFolder(self.folder).ledger_path, {}) as ledger:
            observer.on_folder(self.folder)
            observer.on_run(6, BATCHES)  # type: ignore[attr-defined]
            for step in range(STEPS):
                record = bad_step(step) if step == 33 else step_record(step)
                ledger.append(record)
                observer.on_step(record)  # type: ignore[attr-defined]
            observer.on_event(RunEventRecord(40, EventKind.ALERT, "look here", 0.0))  # type: ignore[attr-defined]
            ledger.flush()
        while not control.wants_stop():
            control.wait_while_paused()
        return RunResult(self.folder, "stopped", STEPS, 6, 0.5, 0.5)


def test_a_live_run_is_read_from_its_ledger(
    make_window: Callable[..., MainWindow], qtbot: QtBot, tmp_path: Path
) -> None:
    window = make_window(LedgerJob(tmp_path), folder=tmp_path)
    assert window.start_run()
    monitor = window.monitor
    qtbot.waitUntil(lambda: len(monitor.loss.events.events) == 1)
    assert monitor.loss.events.x_N.tolist() == [40]
    checkpoints = RunFolder(tmp_path).checkpoints_dir
    checkpoints.mkdir()
    for name in ("step-0000000020.safetensors", "best.safetensors", "step-x.safetensors"):
        (checkpoints / name).touch()
    monitor.set_folder(RunFolder(tmp_path))
    monitor.redraw()
    assert monitor.loss.events.x_N.tolist() == [20, 40]
    assert monitor.loss.events.events[0].kind is EventKind.CHECKPOINT
    monitor._crosshair.forget_recent()  # so that only the ledger has the rows
    with LedgerReader(RunFolder(tmp_path).ledger_path) as reader:
        for step in (3, 33):
            monitor.point_at(step, hold=True)
            qtbot.waitUntil(
                lambda: (
                    monitor.row.record is not None and monitor.row.record.step == monitor.crosshair
                )
            )
            record = reader.step(step)
            assert record is not None
            assert monitor.row.record is not None
            assert full_row(monitor.row.record) == full_row(record)
    window.controller.stop()
    qtbot.waitUntil(lambda: not window.controller.active)


@pytest.mark.parametrize("name", ["plots.png", "plots.svg"])
def test_a_picture_shows_curves_and_marks(
    make_window: Callable[..., MainWindow], qtbot: QtBot, tmp_path: Path, name: str
) -> None:
    window = make_window(LedgerJob(tmp_path), folder=tmp_path)
    assert window.start_run()
    qtbot.waitUntil(lambda: len(window.monitor.loss.events.events) == 1)
    path = tmp_path / name
    save_picture(window.monitor.plots_view, path, QSize(900, 700), 1.0, window.monitor.redraw)
    if path.suffix == ".svg":
        text = path.read_text()
        for color in (LIGHT.loss, LIGHT.norm_pre, LIGHT.norm_post, LIGHT.mark, LIGHT.warning):
            assert color in text, color
        assert "max_norm" in text
    else:
        image = QImage(str(path)).convertToFormat(QImage.Format.Format_RGB32)
        pixels = np.frombuffer(image.constBits(), np.uint32) & 0xFFFFFF
        for color in (LIGHT.loss, LIGHT.norm_pre, LIGHT.norm_post, LIGHT.mark, LIGHT.warning):
            assert (pixels == int(color[1:], 16)).sum() > 10, color
    window.controller.stop()
    qtbot.waitUntil(lambda: not window.controller.active)
